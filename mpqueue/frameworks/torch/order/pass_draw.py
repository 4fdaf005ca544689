"""The batches that a pass has drawn from its sampler for the workers.

One batch is drawn whenever one more may be dealt, as in torch's iterator. So an endless sampler works, and the
trainer's generator is used at the same moments.
"""

from mpqueue.frameworks.torch.order.order import SamplerWatch
from mpqueue.frameworks.torch.source.samples import num_positions
from mpqueue.frameworks.torch.source.worker import listed_of
from mpqueue.plan.position.cursors import Drawn, RankStart
from mpqueue.system.signals.interrupts import is_interrupt
from mpqueue.system.user_code.exception_texts import raised_ahead


class PassDraw:
    """The batches of one pass, drawn from torch's own iterator of its sampler.

    The first batch is drawn in the constructor.

    Args:
        watch: The iterator.
        epoch: The epoch. Random numbers depend on it and on the point in the order.
        first: Point of the first sample.
        is_batched: The sampler returns lists of indices.

    Raises:
        Exception: The error that the sampler raised instead of its first batch.
    """

    is_once = True
    has_ended = False  # the end is not known ahead, so a state at the last batch belongs to this pass

    def __init__(self, watch: SamplerWatch, epoch: int, first: int = 0, *, is_batched: bool) -> None:
        self.watch, self._epoch, self._is_batched = watch, epoch, is_batched
        self._ahead: list[Drawn] = []
        self._error: BaseException | None = None  # of the sampler, after the batches in `_ahead`
        self._num_batches, self._num_samples, self._mark = 0, first, 0
        self._is_interrupted = False
        self._draw(1)

    @property
    def mark(self) -> int:
        """Fingerprint of all indices that were taken."""
        return self._ahead[0].mark if self._ahead else self._mark

    def take(self, limit: int) -> list[Drawn]:
        """Return up to ``limit`` of the next batches. An error of the sampler is raised after the batches before it."""
        if self._error is None:
            try:
                self._draw(limit)
            except BaseException as error:
                if is_interrupt(error):
                    raise
                # Keep the error: a generator that has raised would only raise `StopIteration` at the next call.
                self._error = error
                if self._ahead:
                    raised_ahead(error)
        if self._error is not None and not self._ahead:
            try:
                raise self._error
            finally:
                self._error = None  # its traceback refers to this iterator, which must be collected to end the workers
        taken, self._ahead = self._ahead[:limit], self._ahead[limit:]
        return taken

    def _draw(self, limit: int) -> None:
        while len(self._ahead) < limit:
            if self._is_interrupted:
                self.watch.draw_again(self._num_batches, self._mark)
            self._is_interrupted = True
            try:
                index = self.watch.take()
            except StopIteration:
                self._is_interrupted = False
                break
            except BaseException as error:
                self._is_interrupted = is_interrupt(error)
                raise
            # Points count samples, so that the random numbers of a sample do not depend on the size of batches.
            drawn = Drawn(self._num_batches, listed_of(index, self._epoch, self._num_samples), self._mark)
            num_samples = self._num_samples + num_positions(index, is_batched=self._is_batched)
            # Assignments alone from here on.
            self._ahead = [*self._ahead, drawn]
            self._num_batches, self._num_samples = self._num_batches + 1, num_samples
            self._mark, self._is_interrupted = self.watch.mark, False


class PassDraws(dict[int, PassDraw]):
    """The draws of the present pass, by epoch."""

    def draw(self, epoch: int, base: RankStart) -> PassDraw:  # noqa: ARG002 - samplers of torch select the rank's part
        """Return the draw of an epoch, which was started already."""
        return self[epoch]
