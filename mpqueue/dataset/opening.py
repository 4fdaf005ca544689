"""From the description of a stream to the stages of a lane.

What is indexed is one stage of a lane, its root, except for the maps that end it: these are stages of their own, so
that statistics and errors tell of them, and give what they give by place.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from mpqueue.dataset import nodes
from mpqueue.dataset.ahead import AheadStage
from mpqueue.dataset.batching import BatchStage
from mpqueue.dataset.buckets import BucketStage
from mpqueue.dataset.buffers import ShuffleStage
from mpqueue.dataset.flattening import FlatMapStage
from mpqueue.dataset.joining import ConcatenateStage, MixStage, ZipStage
from mpqueue.dataset.keeping import CacheStage
from mpqueue.dataset.lane import StreamLane
from mpqueue.dataset.packing import PackStage
from mpqueue.dataset.passes import EnumerateStage, RepeatStage, SkipStage, TakeStage
from mpqueue.dataset.roots import IndexedRoot, StreamRoot
from mpqueue.dataset.source import RunnableDataset
from mpqueue.dataset.stages import FilterStage, LaneStage, MapStage
from mpqueue.dataset.threaded import ThreadedStage
from mpqueue.engine.skips import Skipped
from mpqueue.worker.lanes import LaneRun


class DatasetLanes(RunnableDataset):
    """A dataset that is a stream: a source of lanes."""

    can_mark = True  # its lanes tell which sample is at work, see `mpqueue.worker.marked`

    @property
    def streams(self) -> list[Any]:
        """The sources that are streams themselves, each lane of which is to take its share by `mpqueue.worker_info`."""
        return [stage.source for stage in self.root.of_kind(nodes.StreamNode)]

    def open_lane(self, run: LaneRun) -> StreamLane:
        """Open a lane, at its beginning or where ``run.state`` was saved.

        Raises:
            Exception: What the user's functions raise when elements that were held are computed again.
        """
        return StreamLane(partial(open_stages, self.root, is_last=True), run)

    def shape(self) -> list[str]:
        """Return a line for each stage."""
        return nodes.shape_of(self.root)


def open_stages(node: nodes.StageNode, run: LaneRun, *, is_last: bool = False) -> LaneStage:
    """Open the stages of a lane.

    Args:
        node: The last one.
        run: What the lane is opened with.
        is_last: What it gives is what the lane gives.
    """
    if node.is_indexed and not isinstance(node, nodes.MapNode):
        return IndexedRoot(node, run)
    match node:
        case nodes.StreamNode():
            return StreamRoot(node, run)
        case nodes.MixNode(stop="all" | "never"):
            # What is used up begins anew: as a stage of its own that nobody asked for, it has no row of counts.
            passes = [nodes.RepeatNode(input=branch) for branch in node.branches]
            runs = [run._replace(base=run.base + start) for start in node.starts]
            return MixStage(
                [_open_repeat(each, inner, is_hidden=True) for each, inner in zip(passes, runs, strict=True)], node, run
            )
        case nodes.JoinNode():
            runs = [run._replace(base=run.base + start) for start in node.starts]
            inputs = [open_stages(branch, inner) for branch, inner in zip(node.branches, runs, strict=True)]
            return _JOINS[type(node)](inputs, node, run)
        case nodes.RepeatNode():
            return _open_repeat(node, run)
        case nodes.CacheNode():
            return _open_cache(node, run)
    assert isinstance(node, nodes.LinkNode)
    source = open_stages(node.input, run)
    match node:
        case nodes.BatchNode():
            # What a stream of the user's gives next may be long in coming: it is taken as it is asked for.
            if not node.of_kind(nodes.StreamNode):
                source = AheadStage(source, node, run)
            return BatchStage(source, node, run, is_last=is_last)
        case nodes.BucketNode():
            return BucketStage(source, node, run, is_last=is_last)
        case nodes.MapNode() | nodes.FilterNode() if node.threads > 1:
            return ThreadedStage(source, node, run)
    return _LINKS[type(node)](source, node, run)


def _open_repeat(node: nodes.RepeatNode, run: LaneRun, *, is_hidden: bool = False) -> RepeatStage:
    def open_pass(number: int) -> LaneStage:
        return open_stages(node.input, run._replace(epoch=nodes.inner_epoch(run.epoch, number, node.times)))

    return RepeatStage(open_pass, node, run, is_hidden=is_hidden)


def _open_cache(node: nodes.CacheNode, run: LaneRun) -> CacheStage:
    def open_input(skip: Callable[[Skipped], None] | None) -> LaneStage:
        return open_stages(node.input, run._replace(seed=nodes.SEED_KEPT, epoch=nodes.EPOCH_KEPT, skip=skip))

    return CacheStage(open_input, node, run)


_JOINS: dict[type[nodes.StageNode], Callable[[list[LaneStage], Any, LaneRun], LaneStage]] = {
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
