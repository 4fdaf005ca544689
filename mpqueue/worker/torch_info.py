"""Has torch's ``get_worker_info()`` answer in workers, where torch is imported; nothing is done where it is not.

torch keeps the answer in a global variable of its module, which does for worker processes and not for threads. And user
code holds the function itself, by ``from torch.utils.data import get_worker_info``, so that to put another one in its
place would not reach everybody. So the function gets other code, once for each process: it asks here, and hands on
torch's own answer where there is none, as in the workers of torch's own loaders and in the trainer.

Whoever asks counts as one who asked `mpqueue.worker_info`. torch's collation does not: it asks in order to allocate a
file of shared memory for torch's own way to the trainer, and so is told that it is in no worker.
"""

import os
import sys
from types import ModuleType
from typing import Any

from mpqueue.system.imports import Watch
from mpqueue.worker import context

_COLLATION = "torch.utils.data._utils.collate"
_watch: Watch | None = None
_process_source: Any = None
_process_answer: Any = None  # of all threads of a worker process; None: this is none, or torch is not imported


def enter_worker_process(source: Any) -> None:
    """Have this worker's number be torch's answer, too; `context.enter_worker_process` was called before.

    Args:
        source: Of this worker; the attribute ``dataset`` of the answer.
    """
    global _process_source
    _process_source = source
    answer()
    _settle()


def answer() -> None:
    """Have torch's function ask here, from now on or from its import on."""
    global _watch
    if _watch is None:
        _watch = Watch("torch", _begin)


def _begin(torch: ModuleType) -> None:
    if not hasattr(torch, "default_generator"):
        return  # another module of this name, such as a stub of a program that has no PyTorch
    from torch.utils.data._utils import worker

    names: dict[str, Any] = vars(worker)
    names["_mpqueue_answer"] = _answer
    names["get_worker_info"].__code__ = _get_worker_info.__code__
    os.register_at_fork(after_in_child=_forget_thread)
    _settle()


def _settle() -> None:
    global _process_answer
    module: Any = sys.modules.get("torch.utils.data._utils.worker")
    info = context.process_info()
    if module is not None and info is not None and hasattr(module, "_mpqueue_answer"):
        _process_answer = module._worker_info = _make(module, info, _process_source)


def _make(module: Any, info: context.WorkerInfo, source: Any) -> Any:
    number, count = info.id, info.num_workers
    if info.num_lanes:  # those of this rank: as in torch, the ranks are the dataset's own business
        number, count = info.lane // info.world, info.num_lanes // info.world
    return module.WorkerInfo(id=number, num_workers=count, seed=info.seed + number, dataset=_dataset_of(source))


def _dataset_of(source: Any) -> Any:
    parts = getattr(source, "parts", None)  # of mpqueue.torch
    if parts is not None and hasattr(parts, "dataset"):
        return parts.dataset
    return source.__self__ if getattr(source, "__name__", "") == "__iter__" else source


def is_of_iterable_dataset(source: Any) -> bool:
    """Return whether a stream is that of an iterable-style dataset of torch."""
    # By name: torch is not imported for this.
    return any(
        kind.__name__ == "IterableDataset" and kind.__module__.startswith("torch.utils.data")
        for kind in type(_dataset_of(source)).__mro__
    )


def _get_worker_info() -> Any:
    """Torch's function with this code: its names are those of torch's module."""
    return _mpqueue_answer(_worker_info)  # type: ignore[name-defined]  # noqa: F821


def _answer(own: Any) -> Any:
    is_collation = sys._getframe(2).f_globals.get("__name__") == _COLLATION
    source = context.thread_source()
    if source is None and (own is None or own is not _process_answer) and not _is_of_lanes():
        return own
    if is_collation:
        return None
    info = context.worker_info()  # which notes that somebody has asked
    if info is None or (source is None and not info.num_lanes):
        return own
    return _make(sys.modules["torch.utils.data._utils.worker"], info, _process_source if source is None else source)


def _is_of_lanes() -> bool:
    """Return whether this thread runs one of several lanes, for a caller that has no workers."""
    info = context.worker_info_unasked()
    return info is not None and info.num_lanes > 1


def _forget_thread() -> None:
    context.enter_thread(None)  # what user code forks in a worker thread is none; torch's own worker has its own number
