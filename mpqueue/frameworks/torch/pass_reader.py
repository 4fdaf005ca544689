"""The batches of the present pass, as the program gets them: pinned, or held for a prefetcher, with torch's errors."""

import time
from typing import Any, NamedTuple, cast

from torch._utils import ExceptionWrapper
from torch.utils.data._utils import pin_memory as torch_pinning

from mpqueue.engine.backend import EndOfStream, NotYet, Stopped
from mpqueue.engine.progress.deliveries import Delivery
from mpqueue.errors import MPQueueError, WorkerRaised
from mpqueue.frameworks.torch.loader_workers import LoaderWorkers
from mpqueue.frameworks.torch.passes import LoaderPasses
from mpqueue.frameworks.torch.source.worker import INIT_NOTE
from mpqueue.plan.order.streams import StreamOrder
from mpqueue.plan.position.cursors import ResumePoint, WorkItem
from mpqueue.system.program_streams import warn_caller
from mpqueue.system.signals.exceptions import add_note, matches, notes_of, set_traceback
from mpqueue.worker.failures import kind_of as raised_kind_of


class Reading(NamedTuple):
    """How batches are read.

    Attributes:
        timeout: Seconds until a `RuntimeError`; 0: wait without a limit.
        pins: Return the batches in pinned memory.
        device: The kind of device that memory is pinned for; None: torch decides.
        title: The name of the dataset, for messages.
    """

    timeout: float
    pins: bool
    device: str | None
    title: str


class StillHeld(Exception):
    """The pass has no more batches, but its user has not got all of them."""


class PassReader:
    """Takes the batches of the present pass.

    Args:
        workers: Compute the batches.
        passes: The passes.
        reading: How the batches are read.

    Attributes:
        reading: As passed.
    """

    _failed: WorkItem | None = None  # the last batch that raised an error
    _has_warned = False

    def __init__(self, workers: LoaderWorkers, passes: LoaderPasses, reading: Reading) -> None:
        self._workers, self._passes, self.reading = workers, passes, reading
        self._holds = False

    @property
    def holds(self) -> bool:
        """Whether a prefetcher takes the batches of this pass ahead of its user."""
        return self._holds

    @holds.setter
    def holds(self, holds: bool) -> None:
        self._holds = holds
        self._workers.pipeline.ledger.holds = holds or self.reading.pins  # see `_take_pinned`

    def next(self, *, is_first: bool) -> Any:
        """Return the next batch.

        Args:
            is_first: The pass has returned no batch yet.

        Raises:
            StopIteration: The pass is over; or the dataset has raised it for an item.
            RuntimeError: The time is over; or the workers cannot continue.
            StillHeld: The pass is over, and the prefetcher has batches of it.
            Exception: The error of the dataset, or of the sampler.
        """
        pipeline = self._workers.pipeline
        try:
            try:
                deadline = self._deadline()
                if is_first and not self._holds:
                    self._raise_first_error()
                if self.reading.pins:
                    return self._take_pinned(deadline)
                return self._take_held(deadline)[1] if self._holds else pipeline.next(deadline=deadline)
            except BaseException as error:
                failed = pipeline.rare.failed
                if failed is not None and failed is not self._failed and not pipeline.guard.is_inconsistent:
                    self._failed = failed
                    self._draw_after(failed, error)
                raise
        except NotYet:
            raise RuntimeError(f"DataLoader timed out after {self.reading.timeout} seconds") from None
        except (EndOfStream, Stopped):
            # Read before the end, which stops the pipeline of workers that are not persistent.
            point = None if pipeline.is_stopped else pipeline.progress.point()
            self._passes.present.is_over = True
            self._workers.end_pass()
            if self._workers.is_stream and point is not None:
                self._check_batches(point)
            raise StopIteration from None
        except StopIteration:
            self._warn_of_stop_iteration()
            raise
        except WorkerRaised as error:
            raise _as_in_torch(error) from error.__cause__
        except MPQueueError as error:
            # Torch raises one class for workers that die or do not answer, and programs catch that.
            raise RuntimeError(f"DataLoader: {error}") from error

    def raise_init_error(self) -> None:
        """Wait for the first batch, and raise the error of ``worker_init_fn`` if there is one.

        The batch, or any other error, is returned by the following `next`.

        Raises:
            Exception: The error of ``worker_init_fn`` in the worker of the first batch.
        """
        pipeline, holds, deadline = self._workers.pipeline, self._workers.pipeline.ledger.holds, self._deadline()
        pipeline.ledger.holds = True  # an error is held for the following `next`
        try:
            # Not taken if it is a batch: that would draw one more from the sampler. The last draw may use the
            # trainer's generator. Torch draws it at the first `next`.
            while not (is_plain := pipeline.is_next_plain()):
                if deadline is not None and time.monotonic() >= deadline:
                    return  # the following `next` raises that the time is over
                if is_plain is None:
                    deadline = pipeline.wait(deadline=deadline)
                elif pipeline.step() is not None:
                    pipeline.guard.restart_soon()  # a batch after all: the following `next` returns it
                    return
        except (EndOfStream, Stopped):
            return  # raised again by the following `next`
        except BaseException as error:
            if INIT_NOTE in notes_of(error):
                pipeline.progress.drop_error(error)  # otherwise its traceback would keep this iterator
                self._workers.shut_down()
                raise
            if pipeline.rare.failed is None or not pipeline.guard.is_failure(error):
                raise
            # Its traceback contains this frame, and with it the iterator, which must be collected to end the workers.
            set_traceback(error, None)
        finally:
            pipeline.ledger.holds = holds

    def _deadline(self) -> float | None:
        return time.monotonic() + self.reading.timeout if self.reading.timeout > 0 else None

    def _raise_first_error(self) -> None:
        """Raise the error that `raise_init_error` has found in place of the first batch."""
        for delivery in self._workers.pipeline.progress.deliveries:
            if delivery.error is not None:
                self._workers.pipeline.progress.drop_error(delivery.error)
                raise delivery.error

    def _take_pinned(self, deadline: float | None) -> Any:
        """Return the next batch in pinned memory, and count it last. Only memory outside of pinned slots is copied."""
        pipeline, delivery = self._workers.pipeline, None
        try:
            delivery, batch = self._take_held(deadline)
            pinned = torch_pinning.pin_memory(batch, self.reading.device)
        except BaseException as error:
            if delivery is not None:
                # Not by a call, which may be struck.
                pipeline.guard.is_inconsistent = pipeline.ledger.needs_attention = True
                if pipeline.guard.is_of_source(error):  # the error stands for the batch
                    pipeline.progress.pass_on(delivery)
            raise
        if self._holds or pipeline.progress.pass_on(delivery):
            return pinned
        return self._take_pinned(deadline)  # a restart in another thread has dropped it: it is computed again

    def _take_held(self, deadline: float | None) -> tuple[Delivery, Any]:
        try:
            taken = self._workers.pipeline.take(deadline=deadline)
        except BaseException as error:
            if not self._holds:  # it is raised here, and not held
                self._workers.pipeline.progress.drop_error(error)
            raise
        if taken is None:
            raise StillHeld if self._holds else EndOfStream
        return taken

    def _draw_after(self, failed: WorkItem, error: BaseException) -> None:
        """Draw one more batch from the sampler before the error of a batch is raised, as torch does."""
        is_crash = matches(error, MPQueueError) and not matches(error, WorkerRaised)
        # An error of the sampler has no position. A generator that has raised is exhausted.
        if failed.position >= 0 and not is_crash:
            self._workers.pipeline.dealing.resume()

    def _check_batches(self, point: ResumePoint) -> None:
        """Warn if a pass over a stream returned no batch; raise a RuntimeError if it must have some.

        Args:
            point: The point after the pass.
        """
        workers, title = self._workers, self.reading.title
        order = cast("StreamOrder", workers.job.plan.order)
        if not workers.is_endless:
            warning = order.no_batches(point, title)
            if warning:
                warn_caller(warning, UserWarning)
        elif point.epoch == workers.epoch:
            raise order.impossible_epoch(point, title) from None

    def _warn_of_stop_iteration(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            warn_caller(
                "the dataset raised StopIteration for an item, which ends a for loop over the DataLoader as if there "
                "were no more batches: raise another exception if this is not intended",
                RuntimeWarning,
            )


def _as_in_torch(error: WorkerRaised) -> Exception:
    """Return torch's error for an exception that cannot be pickled: one of its class, with its text as the argument."""
    kind = raised_kind_of(error)
    if kind is None or not issubclass(kind, Exception):
        return RuntimeError(f"Caught {error}")
    # torch's own class decides how the exception is made of the text; its constructor would read a traceback.
    wrapper = ExceptionWrapper.__new__(ExceptionWrapper)
    wrapper.exc_type, wrapper.exc_msg, wrapper.where = kind, f"error: {error}", "in DataLoader worker process"
    try:
        wrapper.reraise()
    except Exception as raised:
        for note in notes_of(error):
            add_note(raised, note)
        set_traceback(raised, None)
        return raised
    raise AssertionError("torch has not raised the error of a worker")
