"""The command ``mpqueue index``: creates the index of files in advance, lists kept indexes, and removes old ones.

The files of one command form one source, in this order. A later source of the same files finds this index.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from mpqueue import files
from mpqueue.commands import frame
from mpqueue.files.kept import KeptFile, cache_folder, clean, kept_files
from mpqueue.telemetry.units import size_text

_EXAMPLES = """\
examples:
  mpqueue index 'train-{000..099}.tar'      for files.Tar("train-{000..099}.tar") in a program
  mpqueue index s3://bucket/*.parquet --json
  mpqueue index                             shows the number and size of all indexes
  mpqueue index --clean 30                  removes indexes that were not used for 30 days

All files of one command form one source. Names may be patterns, braces and URLs."""

_FORMATS = {row.option: (name, row) for name, row in files.FORMATS.items() if row.option is not None}


def main(arguments: Sequence[str]) -> int:
    """Create an index, list kept ones, or remove old ones; return the exit status."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    folder = cache_folder(options.index)
    try:
        if options.paths:
            if options.clean is not None:
                parser.error("--clean cannot be combined with paths")
            result = _make(parser, options.paths, options.format, folder)
        else:
            result = _list(folder, None if options.clean is None else clean(folder, options.clean))
    except ImportError as missing:
        raise frame.Missing(str(missing)) from missing
    except (OSError, ValueError) as error:
        frame.tell("index", str(error))
        return 1
    text = result.pop("text")
    if options.json:
        frame.print_json(result)
    else:
        print(text)
    return 0


def _make(parser: argparse.ArgumentParser, paths: list[str], name: str | None, folder: str) -> dict[str, Any]:
    name = name or _format_of(paths)
    if name is None:
        parser.error(f"the format cannot be derived from the names: pass --format, one of {', '.join(_FORMATS)}")
    of_format, row = _FORMATS[name]
    make: Callable[..., Any] = getattr(files, of_format)
    is_folder = not row.endings
    if is_folder and len(paths) > 1:
        parser.error(f"{name} needs exactly one folder, got {len(paths)}")
    began = time.monotonic()
    source = make(paths[0] if is_folder else paths, index=folder)
    seconds = time.monotonic() - began
    path = source.index_path
    return {
        "format": name,
        "samples": len(source),
        "seconds": round(seconds, 3),
        "index": path,
        "index_bytes": os.path.getsize(path),
        "text": f"{source!r}\nindex: {path}, {size_text(os.path.getsize(path))}, in {seconds:.1f} s",
    }


def _format_of(paths: list[str]) -> str | None:
    """Return the format with the suffixes of all these files."""
    for name, (_, row) in _FORMATS.items():
        if row.endings and all(path.lower().partition("?")[0].endswith(row.endings) for path in paths):
            return name
    if len(paths) != 1 or not os.path.isdir(paths[0]):
        return None
    folders = {row.marker: name for name, (_, row) in _FORMATS.items() if not row.endings}
    marked = [name for marker, name in folders.items() if marker and os.path.exists(os.path.join(paths[0], marker))]
    return marked[0] if marked else folders[None]


def _list(folder: str, removed: list[KeptFile] | None) -> dict[str, Any]:
    kept = kept_files(folder)
    lines = [f"{folder}: {_counted(kept)}"]
    if removed is None:
        old = [file for file in kept if file.days >= 30]
        if old:
            lines.append(f"not used for 30 days: {_counted(old)}; mpqueue index --clean 30 removes them")
    else:
        lines.insert(0, f"removed: {_counted(removed)}")
    return {"folder": folder, "kept": kept, "removed": removed or [], "text": "\n".join(lines)}


def _counted(kept: list[KeptFile]) -> str:
    return f"{len(kept):,} file{'s' * (len(kept) != 1)}, {size_text(sum(file.num_bytes for file in kept))}"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = frame.make_parser(
        "index",
        "Create the index of files in advance, so that no training waits for it.",
        _EXAMPLES,
        usage="mpqueue index [PATH ...] [--format FORMAT] [--index FOLDER] [--json]\n       mpqueue index --clean DAYS",
    )
    add = parser.add_argument
    add("paths", nargs="*", metavar="PATH", help="files of one format, or a folder of MDS shards or of images")
    add("--format", choices=_FORMATS, help="needed if the names do not show the format")
    add("--index", metavar="FOLDER", help="folder of the indexes (default: $XDG_CACHE_HOME/mpqueue)")
    add("--clean", type=frame.count, metavar="DAYS", help="remove indexes that were not used for this number of days")
    return parser
