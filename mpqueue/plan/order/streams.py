"""The order of a stream: its elements are taken from virtual shards ("lanes")."""

from dataclasses import dataclass, replace
from typing import Any, Self

from mpqueue.plan.ids.batch_info import SampleIds
from mpqueue.plan.options.backend_kinds import BackendName
from mpqueue.plan.order.orders import Order
from mpqueue.plan.order.rules import warn_of_unequal_ranks
from mpqueue.plan.position.cursors import Cursor, Edit, ResumePoint, WorkItem
from mpqueue.plan.position.lanes import LaneShare
from mpqueue.plan.position.stream_cursor import StreamCursor
from mpqueue.plan.sources.stream_sources import AnyStream
from mpqueue.system.units import count_text


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamOrder(Order):
    """Elements of lanes in turn, each lane with its own order. The source itself excludes samples."""

    source: AnyStream

    has_index = False

    @classmethod
    def of(cls, **fields: Any) -> Self:
        """Return an order with these fields.

        Raises:
            ValueError: There are too many lanes, or they cannot be divided equally among the ranks.
        """
        source, options, ranks = fields["source"], fields["options"], fields["ranks"]
        lanes = source.check_lanes(None if options.lanes is None else int(options.lanes), ranks.shard.world)
        each = None if options.epoch_batches is None else int(options.epoch_batches)
        epoch_batches = ranks.batches_of_all(each)
        warn_of_unequal_ranks(ranks.lane_shard, epoch_batches)
        return cls(lanes=lanes, epoch_batches=epoch_batches, **fields)

    def identity(self) -> list[Any]:
        """Return the values that identify a run, as plain data."""
        lanes = [] if self.lanes is None else [self.lanes, self.source.shape()]
        return super().identity() + lanes

    def length(self, epoch: int | None = None) -> int | None:
        """Return the number of batches per epoch that are dealt here; None: unknown."""
        return self.epoch_batches

    def share(self, workers: int = 0, backend: BackendName = "process") -> LaneShare:
        """Return the lanes of this rank. The number of workers is needed if each has one lane."""
        return self.source.share(self.lanes, self.ranks.lane_shard, workers, backend)

    def cursor(
        self, workers: int, backend: BackendName, draws: Any = None, *, barrier: bool = False, edit: Edit | None = None
    ) -> Cursor:
        """Return a cursor at the beginning of the order."""
        return StreamCursor(self.share(workers, backend), epoch_batches=self.epoch_batches)

    def first_sample(self, point: ResumePoint, at: int | None) -> None:
        """Return None, and refuse ``at``."""
        if at is not None:
            raise ValueError(
                f"at={at} names a sample of a mixture with an index, and {self.source.name} is a stream: leave out at. "
                "Each virtual shard has the new weights from its next pick on"
            )

    def after(self, point: ResumePoint) -> ResumePoint:
        """Return where the next epoch begins if an endless stream is left at this point."""
        return point._replace(epoch=point.epoch + 1, position=0) if point.position else point

    # -- The ids of samples

    def identified(self) -> "StreamOrder":
        """Return the order of a stream of the sample ids of each element."""
        # Of a generator function, the number of samples in a batch is enough.
        batching = None if self.batching is None else self.batching._replace(collate=len)
        return replace(self, source=self.source.identified(), batching=batching)

    def ids_of(self, work_item: WorkItem, element: Any, share: LaneShare) -> SampleIds:
        """Return the ids of the samples of an element.

        Args:
            work_item: Its work item.
            element: The element of the identified order.
            share: The lanes of this rank.
        """
        if self.source.opens_lanes:
            return tuple(element)
        size, count = (1, 1) if self.batching is None else (self.batching.batch_size or 1, element)
        first, lane = work_item.source_index * size, share.lane(work_item.lane)
        return tuple((lane, index) for index in range(first, first + count))

    # -- Streams without batches

    @property
    def parts(self) -> str:
        """The name of the parts of the stream, for messages."""
        return "workers" if self.lanes is None else "virtual shards (lanes)"

    def no_batches(self, point: ResumePoint, title: str) -> str | None:
        """Return a warning about a pass over the stream that ended without a batch; None: it returned batches.

        Args:
            point: The point after the pass.
            title: The name of the source.
        """
        return None if any(point.counts) else self.why_empty(len(point.counts), title)

    def impossible_epoch(self, point: ResumePoint, title: str) -> RuntimeError:
        """Return the error for an epoch of a number of batches over a stream that returns none.

        Args:
            point: The point after the pass.
            title: The name of the source.
        """
        each, of_all = self.epoch_batches or 0, self.ranks.batches_of_all(1) or 1
        reason = self.why_empty(len(point.counts), title)
        return RuntimeError(f"an epoch of {count_text(each // of_all, 'batch')} is impossible: {reason}")

    def why_empty(self, num_lanes: int, title: str) -> str:
        """Return the message for a stream that returns no batches.

        Args:
            num_lanes: Number of lanes of this rank.
            title: The name of the source.
        """
        rank, world = self.ranks.lane_shard  # a server runs the lanes of all ranks
        where = "" if world == 1 else f" on rank {rank} of {world}"
        dropping = self.source.dropping(self.options)
        if not dropping:
            return f"the stream of {title} is empty{where}: it returned no elements. Check its source and its filters"
        lanes, fewer = "", "a smaller batch size"
        if num_lanes > 1:
            lanes = f", and each of {num_lanes} {self.parts} makes its own batches"
            fewer = f"{fewer}, fewer {self.parts}"
        return (
            f"the stream of {title} returned no batches{where}: {dropping} drops batches that are not full{lanes}. "
            f"Use {fewer}, or no drop_last"
        )
