"""Names of files, as people write them: paths, patterns, braces, lists of these.

``shard-{000..099}.tar`` are a hundred names, as in a shell and in WebDataset; each has to be there. ``shard-*.tar`` are
those that are there, in the order of their names. A name that is there as it stands is taken as it stands, whatever
characters it has. A URL of fsspec is a name, too; whether there is a file behind it is known when it is looked at.
"""

import glob
import io
import itertools
import math
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

from mpqueue.files import urls

Name = str | os.PathLike[str]
Names = Name | Iterable[Name]

_GROUP = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.([1-9]\d*))?")
_MAX_NAMES = 1_000_000  # a mistyped range is to be an error, and not a computer without memory


def expand(names: Names) -> list[str]:
    """Return the names of files, in the order in which they are given, those that match a pattern sorted.

    Args:
        names: A path, or several. ``*``, ``?``, ``[...]`` and ``**`` match names that are there; ``{000..099}`` and
            ``{a,b}`` stand for each of these. ``file://`` is left out. URLs of fsspec are names, too: ``s3://bucket/*.tar``.

    Raises:
        TypeError: It is no path, and no iterable of paths.
        FileNotFoundError: A path is not there, or nothing matches a pattern; the error names it.
        ValueError: Braces that do not match, more than a million names, a URL of no known scheme, or no names at all.
        ImportError: A URL, and fsspec, or what it needs for this scheme, is not installed.
    """
    given = [names] if isinstance(names, str | bytes | os.PathLike) else _listed(names)
    if not given:
        raise ValueError("got no names of files: an empty list")
    found: list[str] = []
    for name in given:
        found += _expand_one(_text(name))
    return found


def folder_name(folder: Name) -> str:
    """Return the name of the one folder that a source reads, as text.

    Raises:
        TypeError: It is no path.
        ValueError: It is empty.
    """
    if not isinstance(folder, str | bytes | os.PathLike):
        raise TypeError(f"the source is one folder, by text or an os.PathLike, got {type(folder).__name__}: {folder!r}")
    return _text(folder)


def _listed(names: Any) -> Sequence[Name]:
    if isinstance(names, io.IOBase):  # whose lines would be names
        raise TypeError(f"names of files are paths or a list of paths, got an open file: pass its name, {names!r}")
    try:
        return list(names)
    except TypeError:
        raise TypeError(f"names of files are paths or a list of paths, got {type(names).__name__}: {names!r}") from None


def _text(name: Name) -> str:
    if not isinstance(name, str | bytes | os.PathLike):
        raise TypeError(f"a name of a file is text or an os.PathLike, got {type(name).__name__}: {name!r}")
    text = os.fsdecode(name).removeprefix("file://")
    if not text or "\0" in text:
        raise ValueError(f"{text!r} cannot name a file")
    return text


def _expand_one(pattern: str) -> list[str]:
    if os.path.lexists(pattern):
        return [pattern]
    found: list[str] = []
    for name in expand_braces(pattern):
        of_pattern = "" if name == pattern else f", which is one of {pattern}"
        is_url = urls.is_url(name)
        if is_url:
            urls.file_system(name)  # whether there is one
        if os.path.lexists(name) or (is_url and not urls.has_magic(name)):
            found.append(name)
        elif is_url or glob.has_magic(name):
            matches = urls.matching(name) if is_url else sorted(glob.glob(name, recursive=True))
            if not matches:
                raise FileNotFoundError(f"no file matches {name}{of_pattern}")
            found += matches
        else:
            raise FileNotFoundError(f"there is no file {name}{of_pattern}")
    return found


def expand_braces(pattern: str) -> list[str]:
    """Return the names that a pattern with braces stands for; itself if it has none.

    Raises:
        ValueError: The braces do not match, are nested, or stand for too many names.
    """
    parts = _GROUP.split(pattern)  # literal, group, literal, ...
    if len(parts) == 1 and not {*pattern} & {*"{}"}:
        return [pattern]
    if any({*literal} & {*"{}"} for literal in parts[::2]):
        raise ValueError(f"{pattern}: braces that do not match, or lie in others; write the names as a list")
    choices: list[Sequence[str]] = [_choices(part) if i % 2 else [part] for i, part in enumerate(parts)]
    if (number := math.prod(map(len, choices))) > _MAX_NAMES:
        raise ValueError(f"{pattern} stands for {number:,} names, more than {_MAX_NAMES:,}: is the range mistyped?")
    return ["".join(each) for each in itertools.product(*choices)]


def _choices(group: str) -> Sequence[str]:
    found = _RANGE.fullmatch(group)
    if found is None:
        # As in a shell, braces without a comma are characters like others.
        return group.split(",") if "," in group else [f"{{{group}}}"]
    first, last, step = int(found[1]), int(found[2]), int(found[3] or 1)
    is_padded = any(len(end := text.lstrip("-")) > 1 and end.startswith("0") for text in found.group(1, 2))
    width = max(len(found[1]), len(found[2])) if is_padded else 0
    if abs(last - first) // step > _MAX_NAMES:
        raise ValueError(f"{{{group}}} stands for more than {_MAX_NAMES:,} names: is the range mistyped?")
    numbers = range(first, last + 1, step) if first <= last else range(first, last - 1, -step)
    return [f"{number:0{width}d}" for number in numbers]
