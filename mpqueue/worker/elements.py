"""The elements of an iterator, one by one, or so many in a row as a batch.

Each element has random numbers of its own, which follow from its number: also where several make a batch.
"""

from collections.abc import Iterator
from typing import Any

from mpqueue.engine.skips import Skipped
from mpqueue.errors import OutOfRangeError
from mpqueue.plan.batching import Batching
from mpqueue.samples.collate import Collation
from mpqueue.samples.leaves import no_sample
from mpqueue.seeding.lazy_seeding import LazySeeding
from mpqueue.telemetry.recorder import Stages
from mpqueue.worker import context
from mpqueue.worker.failures import passes_at_once
from mpqueue.worker.lanes import LaneRun
from mpqueue.worker.runner import StreamEnd
from mpqueue.worker.sample_runner import ClockedCollation, collating, joined_or_skipped


class Elements:
    """The elements of a lane, as its iterator gives them.

    Args:
        run: The lane.
        plan: How elements become batches; None: each is one.
        seeding: Seeds the global generators when ``run.begin`` is called. If None, they are not seeded.
        source: The function or iterator, for its name in errors.

    Attributes:
        iterator: Whose elements they are; None: it has ended.
    """

    def __init__(self, run: LaneRun, plan: Batching | None, seeding: LazySeeding | None, source: Any) -> None:
        self.iterator: Iterator[Any] | None = None
        self._name = getattr(source, "__qualname__", type(source).__name__)
        self._run, self._plan, self._seeding = run, plan, seeding

    def next(self, epoch: int, number: int, stages: Stages | None) -> Any:
        """Return the next one, or the next batch.

        Args:
            epoch: Of its random numbers.
            number: Of the element, or the batch.
            stages: Where the time for collation is noted; None: it is not timed.

        Raises:
            StreamEnd: The iterator has ended.
            Exception: What it raised.
        """
        plan, seeding, run = self._plan, self._seeding, self._run
        if plan is None:
            return self.element(epoch, number)
        if seeding is None:
            return self._batch(epoch, number, plan, stages)
        of = run.seed, epoch, number * run.num_lanes + run.lane
        return seeding.once(of, self._batch, epoch, number, plan, stages)

    def element(self, epoch: int, number: int) -> Any:
        """Return the next one, without a plan.

        Raises:
            StreamEnd: The iterator has ended.
            Exception: As of `next`.
        """
        iterator, run = self.iterator, self._run
        if iterator is None:
            raise StreamEnd
        run.begin(run.seed, epoch, number * run.num_lanes + run.lane)
        try:
            return next(iterator)
        except (StopIteration, OutOfRangeError):
            self.iterator = None
            raise StreamEnd from None
        except ValueError as error:
            if "already executing" not in str(error):
                raise
            raise RuntimeError(
                "this generator is not thread-safe: it was asked for an element while another thread ran it. "
                "Use workers=1, or protect it with a lock"
            ) from error

    def _batch(self, epoch: int, number: int, plan: Batching, stages: Stages | None) -> Any:
        size = plan.batch_size
        assert size is not None
        first = number * size
        skipped: list[Skipped] = []
        samples: list[Any] = []
        for place in range(first, first + size):
            try:
                sample = self.element(epoch, place)
                # Here, and not when the batch is made, so that only this element is left out.
                if sample is None and plan.skips and plan.collate is None:
                    raise self._refuse_none(place)
            except StreamEnd:
                break
            except Exception as error:
                if not plan.skips or passes_at_once(error):
                    raise
                skipped.append(Skipped.because_of(error, place))
            else:
                samples.append(sample)
        if not skipped and (not samples or (plan.drops and len(samples) < size)):
            raise StreamEnd
        if not plan.skips:
            return self._join(first, samples, plan, stages)
        kept = range(first, first + len(samples))
        return joined_or_skipped(kept, skipped, lambda: self._join(first, samples, plan, stages))

    def _join(self, first: int, samples: list[Any], plan: Batching, stages: Stages | None) -> Any:
        if plan.collate is not None:
            return collating(plan.collate, stages)(samples)
        plain = Collation(
            len(samples), context.empty, keeps_records=self._run.in_slot, refuse_none=self._refuse_none
        )  # fmt: skip
        collation = plain if stages is None else ClockedCollation(plain, stages)
        collation.add_all(samples)
        return collation.finish(range(first, first + len(samples)))

    def _refuse_none(self, place: int) -> TypeError:
        return no_sample(f"element {place} of {self._name}", "did the code that makes it forget to return?")
