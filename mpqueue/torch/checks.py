"""Checks that are made when workers are to be started: what they cannot do, said before there are any."""

from collections.abc import Iterator
from typing import Any

import torch

_MAX_DEPTH = 4
_MAX_OBJECTS = 2000
_MAX_ITEMS = 64


def refuse_cuda(dataset: Any, start_method: str) -> None:
    """Raise a `RuntimeError` for a dataset that holds memory of a GPU: its context does not survive a fork."""
    if start_method == "spawn" or not torch.cuda.is_initialized():
        return
    path = next(_on_gpu(dataset), None)
    if path is not None:
        raise RuntimeError(
            f"the dataset holds memory of a GPU (dataset{path}), and its workers are forked, which no CUDA context "
            "survives. Keep it in the memory of the host (`.cpu()`) and copy the batches to the GPU in the training "
            'loop; or pass multiprocessing_context="spawn", which gives each worker a context of its own; or '
            "num_workers=0"
        )


def _on_gpu(root: Any) -> Iterator[str]:
    """The paths below an object at which something lies on a GPU."""
    level, seen = [("", root)], set[int]()
    for _ in range(_MAX_DEPTH):
        following: list[tuple[str, Any]] = []
        for path, value in level:
            if id(value) in seen or len(seen) > _MAX_OBJECTS:
                continue
            seen.add(id(value))
            if getattr(value, "is_cuda", False) is True:
                yield path
            else:
                following += [(path + step, inner) for step, inner in _inside(value)]
        level = following


def _inside(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(f"[{key!r}]", item) for key, item in list(value.items())[:_MAX_ITEMS]]
    if isinstance(value, list | tuple):
        return [(f"[{number}]", item) for number, item in enumerate(value[:_MAX_ITEMS])]
    attributes = getattr(value, "__dict__", None)
    if not isinstance(attributes, dict) or isinstance(value, type):
        return []
    return [(f".{name}", item) for name, item in attributes.items()]
