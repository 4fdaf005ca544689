"""The elements of an iterator, one by one or in batches.

Each element has its own random numbers, which follow from its index, also within a batch.
"""

from collections.abc import Iterator
from typing import Any

from mpqueue.engine.skips import Skipped
from mpqueue.errors import OutOfRangeError
from mpqueue.plan.options.batching import Batching
from mpqueue.samples.leaves import no_sample
from mpqueue.seeding.lazy_seeding import LazySeeding
from mpqueue.system.user_code.exception_texts import text_of
from mpqueue.system.user_code.object_walk import title_of
from mpqueue.telemetry.stages import Stages
from mpqueue.worker.failures import skips_sample
from mpqueue.worker.runners.lanes import LaneRun
from mpqueue.worker.runners.runner import StreamEnd
from mpqueue.worker.runners.sample_runner import collating, default_collation, joined_or_skipped


class Elements:
    """The elements of a lane, from its iterator.

    Args:
        run: The lane.
        plan: How elements become batches; None if each element is a batch.
        seeding: Seeds the global generators when ``run.begin`` is called. If None, they are not seeded.
        source: The function or iterator; errors name it.

    Attributes:
        iterator: The iterator; None once it is exhausted.
    """

    def __init__(self, run: LaneRun, plan: Batching | None, seeding: LazySeeding | None, source: Any) -> None:
        self.iterator: Iterator[Any] | None = None
        self._name = title_of(source)
        self._run, self._batching, self._seeding = run, plan, seeding

    def next(self, epoch: int, index: int, stages: Stages | None) -> Any:
        """Return the next element, or the next batch.

        Args:
            epoch: Epoch, for the random numbers.
            index: Index of the element or batch.
            stages: Records the time of collation; None if it is not timed.

        Raises:
            StreamEnd: The iterator is exhausted.
            Exception: The error of the iterator.
        """
        plan, seeding, run = self._batching, self._seeding, self._run
        if plan is None:
            return self.element(epoch, index)
        if seeding is None:
            return self._batch(epoch, index, plan, stages)
        # Seeded once for the batch, since all its elements share the global generators.
        of = run.seed, epoch, index * run.num_lanes + run.lane
        return seeding.once(of, self._batch, epoch, index, plan, stages)

    def element(self, epoch: int, index: int) -> Any:
        """Return the next element, without a plan.

        Raises:
            StreamEnd: The iterator is exhausted.
            Exception: See `next`.
        """
        iterator, run = self.iterator, self._run
        if iterator is None:
            raise StreamEnd
        run.begin(run.seed, epoch, index * run.num_lanes + run.lane)
        try:
            return next(iterator)
        except (StopIteration, OutOfRangeError):
            # A finished iterator is never called again.
            self.iterator = None
            raise StreamEnd from None
        except ValueError as error:
            if "already executing" not in text_of(error):
                raise
            raise RuntimeError(
                "this generator is not thread-safe: one thread called it while another thread ran it. "
                "Use workers=1, or protect it with a lock"
            ) from error

    def _batch(self, epoch: int, index: int, plan: Batching, stages: Stages | None) -> Any:
        size = plan.batch_size
        assert size is not None
        # Random numbers follow from an element's position, so they do not depend on the batch size.
        first = index * size
        skipped: list[Skipped] = []
        samples: list[Any] = []
        has_ended = False
        for position in range(first, first + size):
            try:
                sample = self.element(epoch, position)
                # Raised here, not at collation, so that only this element is skipped.
                if sample is None and plan.skips and plan.collate is None:
                    raise self._refuse_none(position)
            except StreamEnd:
                # The rest is a smaller batch. The next call raises the end again.
                has_ended = True
                break
            except BaseException as error:
                if not (plan.skips and skips_sample(error)):
                    raise
                skipped.append(Skipped.because_of(error, position))
            else:
                samples.append(sample)
        if has_ended and (not samples or plan.drops):
            raise StreamEnd(skipped=[tuple(entry) for entry in skipped])
        if not plan.skips:
            return self._join(first, samples, plan, stages)
        kept = range(first, first + len(samples))
        return joined_or_skipped(kept, skipped, lambda: self._join(first, samples, plan, stages))

    def _join(self, first: int, samples: list[Any], plan: Batching, stages: Stages | None) -> Any:
        if plan.collate is not None:
            return collating(plan.collate, stages)(samples)
        collation = default_collation(len(samples), self._run.in_slot, self._refuse_none, stages, plan.ragged)
        collation.add_all(samples)
        return collation.finish(range(first, first + len(samples)))

    def _refuse_none(self, position: int) -> TypeError:
        return no_sample(f"element {position} of {self._name}", "did the code that creates it forget to return?")
