"""The command ``mpqueue state``: prints the states of loaders in a file."""

import argparse
import json
import traceback
from collections.abc import Sequence
from typing import Any

from mpqueue.commands import frame
from mpqueue.commands.factories import NotFound
from mpqueue.commands.state.read import FoundState, UnreadableFile, read, states_in

_EXAMPLES = """\
examples:
  mpqueue state loader.json                 json.dump(loader.state_dict(), file)
  mpqueue state checkpoint.pt               torch.save({"loader": loader.state_dict(), ...}, ...)
  mpqueue state out/dl_state_dict.bin --json
  mpqueue state loader.json --source train.py:make_loader

A checkpoint is read with torch.load(weights_only=True), which runs none of its code. --source runs your code: the
factory makes a Loader with the same options as the one that saved the state.
exit status: 0; 1: the file cannot be read, or contains no state of a loader, or a state does not fit --source"""


def main(arguments: Sequence[str]) -> int:
    """Print the states in a file, and return the exit status."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    try:
        found = list(states_in(read(options.file)))
    except (OSError, UnreadableFile) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        frame.tell("state", f"{options.file}: {reason}")
        return 1
    try:
        following = [{}] * len(found) if options.source is None else _following(options.source, found)
    except NotFound as error:
        parser.error(str(error))
    except Exception:
        traceback.print_exc()
        frame.tell("state", f"{options.source} has failed")
        return 1
    rows = [each.facts() | more for each, more in zip(found, following, strict=True)]
    if options.json:
        frame.print_json([{"key": each.key, **row} for each, row in zip(found, rows, strict=True)])
    if not found:
        frame.tell(
            "state",
            f"{options.file} contains no state of a loader: save loader.state_dict() in it, alone or in a dict or list",
        )
        return 1
    if not options.json:
        print("\n\n".join("\n".join(_lines(each.key, row)) for each, row in zip(found, rows, strict=True)))
    return int(any("error" in row for row in rows))


def _following(factory: str, found: Sequence[FoundState]) -> list[dict[str, Any]]:
    """Return for each state the ids of the samples in its next batch, or why they are unknown."""
    from mpqueue.commands.state.next_batch import (  # imports the loader, which other uses do not need
        following,
        loader_of,
    )

    with loader_of(factory) as loader:
        return [following(loader, each.state) for each in found]


def _lines(key: str, facts: dict[str, Any]) -> list[str]:
    """Return a state as lines: its key, and each of its facts."""
    width = max(map(len, facts), default=0)
    return [key, *[f"  {name:<{width}}  {_shown(value)}" for name, value in facts.items()]]


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=frame.plain)
    return text.encode("utf-8", "backslashreplace").decode()  # JSON may have lone surrogates, which cannot be printed


def make_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = frame.make_parser("state", "Show the position of each loader whose state is in a file.", _EXAMPLES)
    add = parser.add_argument
    add("file", metavar="FILE", help="a JSON file, or a file that torch.save wrote")
    add(
        "--source",
        metavar="FILE.py:FACTORY",
        help="callable without arguments that makes the Loader: also show the ids of the samples in the next batch",
    )
    return parser
