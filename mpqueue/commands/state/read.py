"""Finds the states of loaders in a file: JSON, or a checkpoint of torch."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mpqueue.commands import frame

_OF_LOADER = frozenset({"seed", "epoch", "position", "ahead", "counts"})
_OF_TORCH = frozenset({"version", "place", "generator", "sampler", "kept"})  # of a `mpqueue.torch.DataLoader`
_ALSO = ("step", "parts", "history")
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"  # the first bytes of torch's files


class UnreadableFile(Exception):
    """The file is not JSON and not a checkpoint of torch; the message contains the reason."""


class FoundState(NamedTuple):
    """A state of a loader in a file.

    Attributes:
        key: Where the state is in the file, such as ``loaders[0]``; "." for the whole file.
        state: The state.
    """

    key: str
    state: Mapping[str, Any]

    def facts(self) -> dict[str, Any]:
        """Return the contents that a user may want to know. Keys that the state lacks are left out."""
        state = self.state
        position = state.get("place") if state.keys() >= _OF_TORCH else state
        found = {"seed": state.get("seed", state.get("base_seed"))}
        if isinstance(position, Mapping):
            found |= {"epoch": position.get("epoch"), "batch": position.get("position")}
        found |= {name: state.get(name) for name in _ALSO}
        return {name: value for name, value in found.items() if value is not None}


def read(path: str) -> Any:
    """Return the contents of a file.

    Raises:
        OSError: The file cannot be read.
        UnreadableFile: The file has another format, or contains objects that torch does not load with `weights_only`.
        frame.Missing: It is a checkpoint of torch, and torch is not installed.
    """
    with open(path, "rb") as file:
        first = file.read(4)
    # By the contents: checkpoints have many suffixes. Older ones of torch are a plain pickle.
    if first == _ZIP or first[:1] == _PICKLE:
        return _read_by_torch(path, is_zip=first == _ZIP)
    with open(path, "rb") as file:
        try:
            return json.load(file)
        except (ValueError, RecursionError) as error:
            raise UnreadableFile(f"expected JSON, or a file that torch.save wrote: {error}") from error


def _read_by_torch(path: str, *, is_zip: bool) -> Any:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise frame.Missing(f'{path} is a checkpoint of torch: pip install "mpqueue[torch]"') from error
    try:
        # Mapped, so that the weights are not read. `weights_only` runs no code of the file.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # torch raises various errors
        reason = str(error).partition("\n")[0]
        raise UnreadableFile(
            f"torch.load(weights_only=True) cannot read it ({type(error).__name__}: {reason}). Save the state in a "
            "separate file, as JSON or with torch.save"
        ) from error


def states_in(contents: Any) -> Iterator[FoundState]:
    """Yield the states of loaders in nested dicts and lists, in their order."""
    seen: set[int] = set()
    stack = [("", contents)]
    while stack:
        key, value = stack.pop()
        if not isinstance(value, Mapping | list | tuple) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Mapping):
            if value.keys() >= _OF_LOADER or value.keys() >= _OF_TORCH:
                yield FoundState(key or ".", value)
                continue
            inner = [(_joined(key, name), item) for name, item in value.items()]
        else:
            inner = [(f"{key}[{index}]", item) for index, item in enumerate(value)]
        stack += reversed(inner)


def _joined(key: str, name: Any) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[\w-]+", name):
        return f"{key}[{name!r}]"
    return f"{key}.{name}" if key else name
