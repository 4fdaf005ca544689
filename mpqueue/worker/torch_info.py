"""Makes torch's ``get_worker_info()`` work in workers, if torch is imported.

Torch keeps the value in a global variable of its module, which suffices for worker processes, but not for threads. User
code may hold the function itself, by ``from torch.utils.data import get_worker_info``, so replacing it would not reach
all references. So the function's code is replaced, once per process: it calls this module, and returns torch's own
value in all other positions, such as in the workers of torch's own loaders and in the trainer.

A call counts as a call of `mpqueue.worker_info`. Calls by torch's collation do not: it would allocate a file of shared
memory for torch's own transfer, and so gets None, as outside of workers.
"""

import os
import sys
from types import ModuleType
from typing import Any

from mpqueue.seeding.global_rng import imported_torch, set_initial_seed
from mpqueue.system.user_code.imports import Watch
from mpqueue.worker import context

_COLLATION = "torch.utils.data._utils.collate"
_watch: Watch | None = None
_process_source: Any = None
_process_answer: Any = None  # for all threads of a worker process; None in other processes, and without torch


def enter_worker_process(source: Any) -> None:
    """Make torch return the index of this worker; call it after `context.enter_worker_process`.

    Args:
        source: Source of this worker; the attribute ``dataset`` of the result.
    """
    global _process_source
    _process_source = source
    answer()
    _settle()


def answer() -> None:
    """Redirect torch's function to this module, now or when torch is imported."""
    global _watch
    if _watch is None:
        _watch = Watch("torch", _begin)


def _begin(torch: ModuleType) -> None:
    if not (hasattr(torch, "default_generator") and hasattr(torch, "__path__")):
        return  # another module of this name, such as a stub without PyTorch, or one that is not a package
    from torch.utils.data._utils import worker

    names: dict[str, Any] = vars(worker)
    names["_mpqueue_answer"] = _answer
    # The code and not the function: every reference to the function sees the change.
    # `_answer` is stored in that module first: the new code looks its names up there, possibly in another thread at
    # once.
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
    index, count = _index_and_count(info)
    return module.WorkerInfo(id=index, num_workers=count, seed=info.seed + index, dataset=_dataset_of(source))


def _index_and_count(info: context.WorkerInfo) -> tuple[int, int]:
    if info.num_lanes:  # the lanes of this rank: as in torch, the dataset divides its elements among the ranks
        return info.lane // info.world, info.num_lanes // info.world
    return info.id, info.num_workers


def begin_dataset() -> None:
    """Make ``torch.initial_seed()`` return the seed of this worker, as in torch; it draws the same numbers.

    An iterable-style dataset may derive a seed from it that all workers share, ``torch.initial_seed() - worker_id``.
    """
    torch, info = imported_torch(), context.worker_info_unasked()
    if torch is not None and info is not None:
        set_initial_seed(torch.default_generator, info.seed + _index_and_count(info)[0])


def _dataset_of(source: Any) -> Any:
    parts = getattr(source, "parts", None)  # a source of `mpqueue.torch`
    if parts is not None and hasattr(parts, "dataset"):
        return parts.dataset
    return source.__self__ if getattr(source, "__name__", "") == "__iter__" else source


def is_of_iterable_dataset(source: Any) -> bool:
    """Return whether a stream reads an iterable-style dataset of torch."""
    # By name, so that torch is not imported.
    return any(
        kind.__name__ == "IterableDataset" and kind.__module__.startswith("torch.utils.data")
        for kind in type(_dataset_of(source)).__mro__
    )


def _get_worker_info() -> Any:
    """Replacement code of torch's function; its global names refer to torch's module."""
    return _mpqueue_answer(_worker_info)  # type: ignore[name-defined]  # noqa: F821


def _answer(own: Any) -> Any:
    # Two frames up: this function is called by the replaced code, which the collation calls.
    is_collation = sys._getframe(2).f_globals.get("__name__") == _COLLATION
    source = context.thread_source()
    if source is None and (own is None or own is not _process_answer) and not _is_of_lanes():
        return own
    if is_collation:
        return None
    info = context.worker_info()  # records the call
    if info is None or (source is None and not info.num_lanes):
        return own
    return _make(sys.modules["torch.utils.data._utils.worker"], info, _process_source if source is None else source)


def _is_of_lanes() -> bool:
    """Return whether this thread runs one of several lanes, in a caller without workers."""
    info = context.worker_info_unasked()
    return info is not None and info.num_lanes > 1


def _forget_thread() -> None:
    # A child that user code forks in a worker thread is not a worker; a worker of torch has its own id.
    context.leave_in_child()
