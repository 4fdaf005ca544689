"""Construction of the stages of a lane from the description of a stream.

An indexed subtree is a single stage of a lane, its root. Maps at its end are separate stages, so that statistics and
errors name them. Their results still depend on the index.
"""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from mpqueue.dataset import nodes
from mpqueue.dataset.ahead import AheadStage
from mpqueue.dataset.batching import BatchStage
from mpqueue.dataset.buckets import BucketStage
from mpqueue.dataset.buffers import ShuffleStage
from mpqueue.dataset.flattening import FlatMapStage
from mpqueue.dataset.indexed import ReaderMaker
from mpqueue.dataset.joining import ConcatenateStage, JoinedInputs, MixStage, ZipStage
from mpqueue.dataset.keeping import CacheStage, SkipsBefore
from mpqueue.dataset.lane import StreamLane
from mpqueue.dataset.packing import PackStage
from mpqueue.dataset.passes import EnumerateStage, RepeatStage, SkipStage, TakeStage
from mpqueue.dataset.roots import IndexedRoot, StreamRoot, most_fruitless_of
from mpqueue.dataset.source import RunnableDataset
from mpqueue.dataset.stages import FilterStage, LaneStage, MapStage
from mpqueue.dataset.threaded import ThreadedStage
from mpqueue.worker.lanes import LaneRun


class DatasetLanes(RunnableDataset):
    """A dataset that is a stream, as a source of lanes."""

    can_mark = True  # its lanes report the current sample, see `mpqueue.worker.retry_markers`

    def __init__(self, root: nodes.StageNode) -> None:
        super().__init__(root)
        self._makers = Makers(root)

    @property
    def streams(self) -> list[Any]:
        """The sources that are streams; each lane must select its share of them by `mpqueue.worker_info`."""
        return [stage.source for stage in self.root.of_kind(nodes.StreamNode)]

    def open_lane(self, run: LaneRun) -> StreamLane:
        """Open a lane, at its beginning or from ``run.state``.

        Raises:
            Exception: A user function raised while elements of the saved state were computed again.
        """
        return StreamLane(partial(open_stages, self.root, is_last=True, makers=self._makers), run)

    def shape(self) -> list[str]:
        """Return a line for each stage."""
        return nodes.shape_of(self.root)


def open_stages(
    node: nodes.StageNode, run: LaneRun, *, is_last: bool = False, makers: "Makers | None" = None
) -> LaneStage:  # fmt: skip
    """Open the stages of a lane.

    Args:
        node: The last stage.
        run: The run that the lane is opened with.
        is_last: Whether this is the last stage of the lane.
        makers: The makers of readers of indexed parts, shared by all lanes of a worker; None for separate ones.
    """
    return _Opening(makers or Makers(node)).open(node, run, is_last=is_last)


class Makers:
    """The readers of the indexed parts of a stream, shared by all lanes that are open in a thread.

    Args:
        root: The last stage of the stream.
    """

    __slots__ = ("_kept", "_root")  # without a `__dict__`, so that the fingerprint of a source does not include it

    def __init__(self, root: nodes.StageNode) -> None:
        self._root, self._kept = root, threading.local()

    def get(self) -> ReaderMaker:
        """Return the maker of readers of this thread, for the current lengths of the sources."""
        lengths = nodes.lengths_of(self._root)
        kept: ReaderMaker | None = getattr(self._kept, "maker", None)
        if kept is None or kept.lengths != lengths:
            self._kept.maker = kept = ReaderMaker(lengths)
        return kept


class _Opening:
    """Opens the stages of a lane; inputs of a join are opened on first use.

    Args:
        makers: See `open_stages`.
    """

    def __init__(self, makers: Makers) -> None:
        self._maker = makers.get()

    def open(self, node: nodes.StageNode, run: LaneRun, *, is_last: bool = False) -> LaneStage:
        """Open a stage and those before it."""
        if node.is_indexed and not isinstance(node, nodes.MapNode):
            return IndexedRoot(node, run, self._maker)
        match node:
            case nodes.StreamNode():
                return StreamRoot(node, run)
            case nodes.JoinNode():
                return _JOINS[type(node)](self._inputs(node, run), node, run)
            case nodes.RepeatNode():
                return self._open_repeat(node, run)
            case nodes.CacheNode():
                return self._open_cache(node, run)
        assert isinstance(node, nodes.LinkNode)
        source = self.open(node.input, run)
        match node:
            case nodes.BatchNode():
                # The next element of a user's stream may take long to arrive, so it is read only on demand.
                if not node.facts.has_stream:
                    source = AheadStage(source, node, run)
                return BatchStage(source, node, run, is_last=is_last)
            case nodes.BucketNode():
                return BucketStage(source, node, run, is_last=is_last)
            case nodes.MapNode() | nodes.FilterNode() if node.threads > 1:
                return ThreadedStage(source, node, run)
        return _LINKS[type(node)](source, node, run)

    def _inputs(self, node: nodes.JoinNode, run: LaneRun) -> JoinedInputs:
        starts = node.starts
        # Exhausted inputs start again. This implicit repeat stage has no row of counts, because the user did not add
        # it.
        repeats = isinstance(node, nodes.MixNode) and node.stop != "first"

        def open_input(at: int) -> LaneStage:
            branch, inner = node.branches[at], run._replace(base=run.base + starts[at])
            if repeats:
                return self._open_repeat(nodes.RepeatNode(input=branch), inner, is_hidden=True)
            return self.open(branch, inner)

        def bound(at: int) -> int | None:
            return self._bound(node.branches[at])

        return JoinedInputs(
            open_input,
            None if repeats or not self._has_endless(node) else bound,
            lambda at: not node.branches[at].facts.has_stream,
        )

    def _has_endless(self, node: nodes.StageNode) -> bool:
        lengths = self._maker.lengths
        return any(lengths.get(id(branch), 0) is None or not branch.is_indexed for branch in node.inputs)

    def _bound(self, node: nodes.StageNode) -> int | None:
        """Return the `LaneStage.most_fruitless` of a part that is not open."""
        bounds, stack = [], [node]
        while stack:
            part = stack.pop()
            if part.is_indexed and self._maker.lengths[id(part)] is None:
                bounds.append(most_fruitless_of(part))
            elif not part.is_indexed and not isinstance(part, nodes.RepeatNode):
                stack += part.inputs
        return sum(bounds) if bounds else None

    def _open_repeat(self, node: nodes.RepeatNode, run: LaneRun, *, is_hidden: bool = False) -> RepeatStage:
        def open_pass(number: int) -> LaneStage:
            return self.open(node.input, run._replace(epoch=nodes.inner_epoch(run.epoch, number, node.times)))

        return RepeatStage(open_pass, node, run, is_hidden=is_hidden)

    def _open_cache(self, node: nodes.CacheNode, run: LaneRun) -> CacheStage:
        skips = None if run.skip is None else SkipsBefore(run.skip)
        source = self.open(node.input, run._replace(seed=nodes.SEED_KEPT, epoch=nodes.EPOCH_KEPT, skip=skips))
        stage = CacheStage(source, node, run)
        if skips is not None:
            skips.stage = stage
        return stage


_JOINS: dict[type[nodes.StageNode], Callable[[JoinedInputs, Any, LaneRun], LaneStage]] = {
    nodes.ZipNode: ZipStage,
    nodes.ConcatenateNode: ConcatenateStage,
    nodes.MixNode: MixStage,
}
_LINKS: dict[type[nodes.StageNode], Callable[[LaneStage, Any, LaneRun], LaneStage]] = {
    nodes.MapNode: MapStage,
    nodes.FilterNode: FilterStage,
    nodes.FlatMapNode: FlatMapStage,
    nodes.ShuffleNode: ShuffleStage,
    nodes.PackNode: PackStage,
    nodes.TakeNode: TakeStage,
    nodes.SkipNode: SkipStage,
    nodes.EnumerateNode: EnumerateStage,
}
