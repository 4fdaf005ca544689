"""File names as users write them: paths, patterns, braces, and lists of these.

``shard-{000..099}.tar`` expands to a hundred names, as in a shell and in WebDataset; each file must exist.
``shard-*.tar`` matches the existing files, sorted by name. ``~`` is the home folder. If a file with the literal name
exists, special characters are not interpreted. An fsspec URL is also a name; whether its file exists is checked when it
is used.
"""

import fnmatch
import glob
import io
import itertools
import math
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

from mpqueue.files.access import urls

Name = str | os.PathLike[str]
Names = Name | Iterable[Name]

_GROUP = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.([1-9]\d*))?")
_MAX_NAMES = 1_000_000  # a mistyped range must raise an error instead of exhausting the memory


def expand(names: Names, exclude: Names | None = None) -> list[str]:
    """Return the names of files, in the given order; the matches of a pattern are sorted.

    Args:
        names: A path, or several. ``*``, ``?``, ``[...]`` and ``**`` match existing names; ``{000..099}`` and ``{a,b}``
            expand to each of these. The prefix ``file://`` is removed. fsspec URLs are also names:
            ``s3://bucket/*.tar``.
        exclude: Patterns of files to exclude, see `FileExclusion`.

    Raises:
        TypeError: The argument is not a path or an iterable of paths.
        FileNotFoundError: A path does not exist, no file matches a pattern (the message names it), or ``exclude``
            excludes all files.
        ValueError: Braces do not match, there are more than a million names, a URL has an unknown scheme, or the
            list of names is empty.
        ImportError: There is a URL, and fsspec, or a package that it needs for this scheme, is not installed.
    """
    arguments = [names] if isinstance(names, str | bytes | os.PathLike) else _listed(names)
    if not arguments:
        raise ValueError("names of files must not be an empty list")
    files: list[str] = []
    for name in arguments:
        files += _expand_one(_text(name))
    return FileExclusion(exclude).rest_of(files)


class FileExclusion:
    """Patterns of files to exclude.

    Args:
        patterns: A pattern with ``*``, ``?``, ``[...]`` and braces, or several; None for no pattern. A pattern without
            a slash is compared with the last part of a name. A pattern with a slash is compared with the end of the
            name, from a slash on. ``*`` also matches slashes.

    Raises:
        TypeError: The argument is not a pattern or an iterable of patterns.
        ValueError: A pattern is empty, or its braces do not match.
    """

    def __init__(self, patterns: Names | None) -> None:
        given = () if patterns is None else [patterns] if isinstance(patterns, str | bytes | os.PathLike) else patterns
        texts = [_text(name, "a pattern of exclude") for name in _listed(given, "exclude", "a pattern")]
        patterns = [each for text in texts for each in dict.fromkeys([text, *expand_braces(text)])]
        self._patterns = list(map(os.path.expanduser, patterns))

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def rest_of(self, names: list[str]) -> list[str]:
        """Return the files that are not excluded.

        Raises:
            FileNotFoundError: No file is left.
        """
        excluded = {name for pattern in self._patterns for name in _matches(pattern, names)}
        left = [name for name in names if name not in excluded]
        if names and not left:
            raise FileNotFoundError(f"exclude={self._patterns} leaves out all {len(names):,} files, such as {names[0]}")
        return left


def _matches(pattern: str, names: list[str]) -> list[str]:
    """Return the names that a pattern of `FileExclusion` matches; only equal ones if there are any."""
    compared = {name: name if "/" in pattern else name.rpartition("/")[2] for name in names}
    equal = [name for name in names if compared[name] == pattern]
    if equal:
        return equal
    matches = re.compile("|".join(map(fnmatch.translate, (pattern, f"*/{pattern}")))).match
    return [name for name in names if matches(compared[name])]


def folder_name(folder: Name) -> str:
    """Return the real path of a folder, or its URL without a slash at the end.

    Raises:
        TypeError: The argument is not a path.
        ValueError: The path is empty.
    """
    name = _text(folder, "the folder")
    return name.rstrip("/") if urls.is_url(name) else os.path.realpath(os.path.expanduser(name))


def _listed(names: Any, what: str = "names of files", kind: str = "a path") -> Sequence[Name]:
    expected = f"{what} must be {kind} or a list of {kind.removeprefix('a ')}s"
    if isinstance(names, io.IOBase):  # iterating it would return its lines
        raise TypeError(f"{expected}, got an open file: pass its name, {names!r}")
    try:
        return list(names)
    except TypeError:
        raise TypeError(f"{expected}, got {type(names).__name__}: {names!r}") from None


def _text(name: Name, noun: str = "a file name") -> str:
    if not isinstance(name, str | bytes | os.PathLike):
        raise TypeError(f"{noun} must be a str or an os.PathLike, got {type(name).__name__}: {name!r}")
    text = os.fsdecode(name).removeprefix("file://")
    if not text or "\0" in text:
        raise ValueError(f"{noun} must not be empty or contain a null byte, got {text!r}")
    return text


def _expand_one(pattern: str) -> list[str]:
    if os.path.lexists(pattern):
        return [pattern]
    files: list[str] = []
    for name in map(os.path.expanduser, expand_braces(pattern)):
        of_pattern = "" if name == pattern else f" (from {pattern})"
        is_url = urls.is_url(name)
        if is_url:
            urls.file_system(name)  # raises for an unknown scheme
        if os.path.lexists(name) or (is_url and not urls.has_magic(name)):
            files.append(name)
        elif is_url or glob.has_magic(name):
            matches = urls.matching(name) if is_url else sorted(glob.glob(name, recursive=True))
            if not matches:
                raise FileNotFoundError(f"no file matches {name}{of_pattern}")
            files += matches
        else:
            raise FileNotFoundError(f"no such file: {name}{of_pattern}")
    return files


def expand_braces(pattern: str) -> list[str]:
    """Return the names that a pattern with braces expands to, or the pattern itself if it has no braces.

    Raises:
        ValueError: The braces do not match, are nested, or expand to too many names.
    """
    parts = _GROUP.split(pattern)  # literal, group, literal, ...
    if len(parts) == 1 and not {*pattern} & {*"{}"}:
        return [pattern]
    if any({*literal} & {*"{}"} for literal in parts[::2]):
        raise ValueError(f"{pattern}: braces must match and must not be nested; otherwise pass a list of names")
    choices: list[Sequence[str]] = [_choices(part) if i % 2 else [part] for i, part in enumerate(parts)]
    if (num_names := math.prod(map(len, choices))) > _MAX_NAMES:
        raise ValueError(f"{pattern} expands to {num_names:,} names, more than {_MAX_NAMES:,}: is the range mistyped?")
    return ["".join(each) for each in itertools.product(*choices)]


def _choices(group: str) -> Sequence[str]:
    match = _RANGE.fullmatch(group)
    if match is None:
        # As in a shell, braces without a comma are literal characters.
        return group.split(",") if "," in group else [f"{{{group}}}"]
    first, last, step = int(match[1]), int(match[2]), int(match[3] or 1)
    is_padded = any(len(end := text.lstrip("-")) > 1 and end.startswith("0") for text in match.group(1, 2))
    width = max(len(match[1]), len(match[2])) if is_padded else 0
    if abs(last - first) // step > _MAX_NAMES:
        raise ValueError(f"{{{group}}} expands to more than {_MAX_NAMES:,} names: is the range mistyped?")
    numbers = range(first, last + 1, step) if first <= last else range(first, last - 1, -step)
    return [f"{number:0{width}d}" for number in numbers]
