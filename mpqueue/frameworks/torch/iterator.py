"""The iterator of a `DataLoader`: torch's own iterator for a program, with mpqueue's workers.

    iter(loader)       draws the sampler's first batch, starts the workers and sends them work
    next               returns a batch, and draws one more from the sampler
    the last next      ends the workers (unless they are persistent)
    iter(loader)       persistent workers: restarts the same iterator with the same workers
    collection         ends the workers immediately

`LoaderPasses` begins the passes, `LoaderWorkers` computes their batches, and `PassReader` takes these. They do not know
torch's private iterator. This module uses of it:

    _MultiProcessingDataLoaderIter   the class that programs check for, such as Lightning and FastEstimator. It is a
                                     plain class, which cannot register others
    _BaseDataLoaderIter.__init__     decides about pinned memory as each release of torch does, iterates the sampler,
                                     and draws `_base_seed`: programs get the same order as from torch
    _reset                           called by torch's ``iter(loader)`` with persistent workers; torch's own method
                                     iterates the sampler again, into `_sampler_iter`
    __next__, _next_data             torch's own method records a step for the profiler, and warns about a wrong length
    _num_yielded                     read by programs that save their position, such as SpeechBrain, and by that warning
    _shutdown_workers, _workers      called and read by programs that end workers, such as Lightning and Ultralytics

The attributes that torch's constructor sets remain for programs: MMEngine calls `_next_index`, and GPT-NeoX reads
`_index_sampler`. The base class also has ``__len__``, and cannot be pickled. Its queues, processes and threads are not
created.
"""

from typing import Any

import torch
from torch.utils.data import dataloader as torch_loader

from mpqueue.frameworks.torch.loader_workers import LoaderWorkers, shut_down
from mpqueue.frameworks.torch.order import between_passes, state
from mpqueue.frameworks.torch.pass_reader import PassReader, Reading, StillHeld
from mpqueue.frameworks.torch.passes import LoaderPasses, known_seed
from mpqueue.frameworks.torch.tensors.pinned import make_pinned
from mpqueue.loader.session import Session
from mpqueue.loader.undelivered import Held
from mpqueue.system.signals.collected import WhenCollected
from mpqueue.system.user_code.object_walk import name_of

_Base = torch_loader._BaseDataLoaderIter
_is_profiled = torch.autograd._profiler_enabled


class PassIterator(torch_loader._MultiProcessingDataLoaderIter):  # type: ignore[misc]  # torch is not type-checked
    """The batches of a loader with workers; see the module docstring.

    Args:
        loader: A `torch.utils.data.DataLoader` with ``num_workers`` above 0; or any loader of a
            `StreamDataset`. If it has no workers, this process computes its batches.

    Raises:
        AssertionError: ``prefetch_factor`` is 0.
        RuntimeError: The dataset contains GPU memory, and the workers are forked.
        Exception: The error that the sampler raised instead of its first batch.

    Attributes:
        loader_workers: The workers.
        reader: Takes their batches.
    """

    _workers: tuple[Any, ...] = ()  # torch's processes, which are not created

    def __init__(self, loader: Any) -> None:
        self._session = Session(kind="DataLoader")
        WhenCollected(self, shut_down, self._session)  # the loader may still refer to the session
        earlier: state.Pass | None = getattr(loader, "_pass", None)
        if earlier is not None:  # the workers are not persistent: this pass starts others
            self._session.starts.follow(earlier.batches.starts)
        with self._session.starts.part("order"):
            between_passes.settle(loader)
            left = getattr(loader, "resumed", None)  # before `known_seed`, which may drop it
            with known_seed(loader) as seed:
                _Base.__init__(self, loader)
            if seed is not None:
                self._base_seed = seed
            guard = make_pinned if self._pin_memory and self._pin_memory_device == "cuda" else None
            workers = LoaderWorkers(loader, self._session, self._base_seed, guard)
        reading = Reading(loader.timeout, self._pin_memory, self._pin_memory_device, name_of(loader.dataset))
        self.loader_workers, self._passes = workers, LoaderPasses(workers, self._session, left)
        self.reader = PassReader(workers, self._passes, reading)
        self._reset(loader, first_iter=True)

    def _reset(self, loader: Any, first_iter: bool = False) -> None:
        def draw() -> Any:
            _Base._reset(self, loader, first_iter)
            return self._sampler_iter

        with self._session.starts.part("order"):
            self._passes.begin(loader, draw, is_first=first_iter)
        self.reader.holds = False

    def __next__(self) -> Any:
        if _is_profiled() or self._IterableDataset_len_called is not None:
            return _Base.__next__(self)
        batch = self._next_data()
        self._num_yielded += 1
        return batch

    def _next_data(self) -> Any:
        if self._passes.is_early:
            self._begin_with_late_epoch()
        return self.reader.next(is_first=not self._num_yielded)

    def _begin_with_late_epoch(self) -> None:
        """Begin the pass again if its sampler got another epoch after `__iter__`."""
        loader, holds = self._passes.take_late_epoch(), self.reader.holds
        if loader is not None:
            self._reset(loader, first_iter=True)
            self.reader.holds = holds

    def held(self) -> Held:
        """Return the batches of this pass, which the caller takes ahead of its user; call it before the first `next`.

        The loader's state and ``last`` then follow the user, and excluded samples are in none of its later batches.
        """
        self.reader.holds = True
        return Held(self._request_held, lambda: self.loader_workers.pipeline)

    def _request_held(self) -> Any:
        try:
            batch = self.__next__()
        except StillHeld:
            return None
        return self.loader_workers.pipeline.progress.deliveries[-1], batch

    def _shutdown_workers(self) -> None:
        """End the workers immediately."""
        shut_down(self._session)

    # C code in place of torch's method, which a signal handler could interrupt. `WhenCollected` ends the workers.
    __del__ = staticmethod(tuple)
