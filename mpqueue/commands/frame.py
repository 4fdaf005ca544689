"""Shared parts of all commands: the parser, the plain or JSON output, and checks for extras.

The parser is argparse's: click's import takes 3.8 times as long and typer's 12 times (40, 153 and 493 ms on a busy
machine), and it suffices for the commands. Tables are aligned here, because the import of rich takes 250 ms.
"""

import argparse
import json
import math
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, TextIO

from mpqueue.system.user_code.keywords import similar_to

_COLOURS = {"ok": "32", "note": "33", "problem": "31;1"}  # terminal codes by verdict
_NARROWEST = 24  # minimum number of columns for text


class Missing(Exception):
    """A command needs an extra that is not installed; the message names it, and how to install it."""


class _Parser(argparse.ArgumentParser):
    """A parser that suggests the option that the user probably meant, in the error for an unknown option."""

    def parse_args(self, *arguments: Any) -> Any:  # type: ignore[override]  # of all overloads
        """Return the options of a command line."""
        options, unknown = self.parse_known_args(*arguments)
        if unknown:
            similar = similar_to(unknown[0].partition("=")[0], self._option_string_actions)
            hint = f": did you mean {similar}?" if similar else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return options


def make_parser(name: str, description: str, examples: str, **options: Any) -> argparse.ArgumentParser:
    """Return the parser of a command, with the option ``--json``.

    Args:
        name: Name of the command.
        description: The first lines of its help.
        examples: The last lines of its help.
        **options: Further options of `argparse.ArgumentParser`.
    """
    parser = _Parser(
        prog=f"mpqueue {name}",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # Otherwise a later option could make an abbreviation in a user's script ambiguous.
        allow_abbrev=False,
        **options,
    )
    parser.add_argument("--json", action="store_true", default=False, help="print JSON, for programs")
    return parser


def positive(text: str) -> float:
    """Return a number above 0; for the type of an argument."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"got {text}, expected a number above 0")
    return value


def count(text: str) -> int:
    """Return an integer of 0 or more; for the type of an argument."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"got {text}, expected an integer of 0 or more")
    return value


def print_json(value: Any, *, is_line: bool = False) -> None:
    """Print a value as JSON; ``is_line``: as one line, if more values follow."""
    text = json.dumps(_valid(value), default=lambda other: _valid(plain(other)), indent=None if is_line else 2)
    print(text, flush=True)


def _valid(value: Any) -> Any:
    """Return a value with named tuples as dicts (JSON has no names for them), and null for NaN and infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _valid(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _valid(value._asdict())
    return [_valid(item) for item in value] if isinstance(value, list | tuple) else value


def plain(value: Any) -> Any:
    """Return a form of a value that JSON can represent."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def tell(command: str, text: str) -> None:
    """Print a message of a command on stderr, separate from its result."""
    print(f"mpqueue {command}: {text}", file=sys.stderr)


def is_coloured(stream: TextIO) -> bool:
    """Return True if a stream is a terminal with colours, and the user has not disabled them."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def coloured(text: str, verdict: str, *, is_wanted: bool) -> str:
    """Return a string in the colour of a verdict, if requested."""
    return f"\033[{_COLOURS[verdict]}m{text}\033[0m" if is_wanted else text


def width_of(stream: TextIO) -> int | None:
    """Return the columns of a terminal; None: the stream is not a terminal, and lines may have any length."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def folded(text: str, width: int | None, indent: str = "", hanging: str = "") -> list[str]:
    """Return a string as lines that fit on a terminal, if it is wide enough for words.

    Args:
        text: Text without line breaks.
        width: Columns of the terminal; None: return one line.
        indent: The beginning of every line.
        hanging: Text after the indent of every line but the first.
    """
    columns = None if width is None else max(width, len(indent) + _NARROWEST)
    if columns is None or len(indent) + len(text) <= columns:
        return [indent + text]
    wrapper = textwrap.TextWrapper(columns, indent, indent + hanging, break_long_words=False, break_on_hyphens=False)
    return wrapper.wrap(text)


def aligned(rows: Sequence[Sequence[str]], numeric: Sequence[bool]) -> list[str]:
    """Return the lines of a table: numeric columns are aligned right, others left.

    Args:
        rows: Rows of cells.
        numeric: For each column, whether it has numbers.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in rows
    ]
