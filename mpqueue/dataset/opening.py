"""From the description of a stream to the stages of a lane.

What is indexed is one stage of a lane, its root, except for the maps that end it: these are stages of their own, so
that statistics and errors tell of them, and give what they give by place.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from mpqueue.dataset import nodes
from mpqueue.dataset.ahead import AheadStage
from mpqueue.dataset.batching import BatchStage
from mpqueue.dataset.buckets import BucketStage
from mpqueue.dataset.buffers import ShuffleStage
from mpqueue.dataset.flattening import FlatMapStage
from mpqueue.dataset.indexed import make_reader
from mpqueue.dataset.joining import ConcatenateStage, MixStage, ZipStage
from mpqueue.dataset.keeping import CacheStage
from mpqueue.dataset.lane import StreamLane
from mpqueue.dataset.mixing import Shares, shuffled
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
        return [stage.source for stage in self.root.stages() if isinstance(stage, nodes.StreamNode)]

    def open_lane(self, run: LaneRun) -> StreamLane:
        """Open a lane, at its beginning or where ``run.state`` was saved.

        Raises:
            Exception: What the user's functions raise when elements that were held are computed again.
        """
        return StreamLane(partial(open_stages, self.root, is_last=True), run)

    def shape(self) -> list[str]:
        """Return a line for each stage."""
        return [f"{node.number}: {node.line()}" for node in self.root.stages()]


def open_stages(node: nodes.StageNode, run: LaneRun, *, is_last: bool = False) -> LaneStage:
    """Open the stages of a lane.

    Args:
        node: The last one.
        run: What the lane is opened with.
        is_last: What it gives is what the lane gives.
    """
    line = node.line()
    if type(node) is nodes.MapNode:
        if node.threads > 1:
            return ThreadedStage(open_stages(node.input, run), node.function, node.threads, run, node.number, line)
        return MapStage(open_stages(node.input, run), node.function, run, node.number, line)
    if node.is_indexed:
        sizes = [stage.length() or 0 for stage in node.stages() if isinstance(stage, nodes.SourceNode)]
        at = partial(make_reader(node).at, run=run)
        return IndexedRoot(at, node.length(), run, node.number, line, num_samples=sum(sizes))
    if type(node) is nodes.BatchNode:
        source = open_stages(node.input, run)
        if not any(isinstance(stage, nodes.StreamNode) for stage in node.stages()):
            source = AheadStage(source, node.size, run)
        return BatchStage(
            source, node.size, run, node.number, line,
            drop_last=node.drop_last, collate=node.collate, is_last=is_last,
        )  # fmt: skip
    if type(node) is nodes.BucketNode:
        return BucketStage(
            open_stages(node.input, run), node.length_of, run, node.number, line,
            boundaries=node.boundaries, batch_sizes=node.batch_sizes, max_tokens=node.max_tokens,
            drop_last=node.drop_last, collate=node.collate, is_last=is_last,
        )  # fmt: skip
    return _OPENERS[type(node)](node, run, line)


def _open_stream(node: nodes.StreamNode, run: LaneRun, line: str) -> LaneStage:
    return StreamRoot(node.source, run, node.number, line)


def _open_filter(node: nodes.FilterNode, run: LaneRun, line: str) -> LaneStage:
    if node.threads > 1:
        source = open_stages(node.input, run)
        return ThreadedStage(source, node.function, node.threads, run, node.number, line, is_filter=True)
    return FilterStage(open_stages(node.input, run), node.function, run, node.number, line)


def _open_flat_map(node: nodes.FlatMapNode, run: LaneRun, line: str) -> LaneStage:
    return FlatMapStage(open_stages(node.input, run), node.function, run, node.number, line)


def _open_shuffle(node: nodes.ShuffleNode, run: LaneRun, line: str) -> LaneStage:
    assert node.buffer is not None
    return ShuffleStage(open_stages(node.input, run), node.buffer, run, node.number, line)


def _open_pack(node: nodes.PackNode, run: LaneRun, line: str) -> LaneStage:
    source = open_stages(node.input, run)
    return PackStage(
        source, run, node.number, line,
        length=node.row_length, strategy=node.strategy, bins=node.bins, long=node.long,
    )  # fmt: skip


def _open_take(node: nodes.TakeNode, run: LaneRun, line: str) -> LaneStage:
    return TakeStage(open_stages(node.input, run), node.count, run, node.number, line)


def _open_skip(node: nodes.SkipNode, run: LaneRun, line: str) -> LaneStage:
    return SkipStage(open_stages(node.input, run), node.count, run, node.number, line)


def _open_enumerate(node: nodes.EnumerateNode, run: LaneRun, line: str) -> LaneStage:
    return EnumerateStage(open_stages(node.input, run), run, node.number, line)


def _open_repeat(node: nodes.RepeatNode, run: LaneRun, line: str) -> LaneStage:
    return _repeating(node.input, node.times, run, node.number, line)


def _repeating(
    node: nodes.StageNode, times: int | None, run: LaneRun, number: int, line: str, *, is_hidden: bool = False
) -> LaneStage:
    def open_pass(pass_number: int) -> LaneStage:
        return open_stages(node, run._replace(epoch=nodes.inner_epoch(run.epoch, pass_number, times)))

    return RepeatStage(open_pass, times, run, number, line, is_hidden=is_hidden)


def _open_cache(node: nodes.CacheNode, run: LaneRun, line: str) -> LaneStage:
    def open_input(skip: Callable[[Skipped], None] | None) -> LaneStage:
        return open_stages(node.input, run._replace(seed=nodes.SEED_KEPT, epoch=nodes.EPOCH_KEPT, skip=skip))

    return CacheStage(open_input, node.cache, run, node.number, line)


def _open_zip(node: nodes.ZipNode, run: LaneRun, line: str) -> LaneStage:
    return ZipStage([open_stages(branch, run) for branch in node.branches], run, node.number, line)


def _open_concatenate(node: nodes.ConcatenateNode, run: LaneRun, line: str) -> LaneStage:
    return ConcatenateStage([open_stages(branch, run) for branch in node.branches], run, node.number, line)


def _open_mix(node: nodes.MixNode, run: LaneRun, line: str) -> LaneStage:
    if node.stop == "first":
        inputs = [open_stages(branch, run) for branch in node.branches]
    else:
        inputs = [
            _repeating(branch, None, run, branch.number, branch.line(), is_hidden=True) for branch in node.branches
        ]
    is_used = [weight > 0 for weight in node.weights]
    picks = MixPicks(node.weights, nodes.salted(run.seed, node.number), run)
    return MixStage(inputs, picks.take, is_used, node.stop, run, node.number, line)


class MixPicks:
    """The inputs from which the elements of a mix in a lane are; each block of them has the quotas of the weights.

    Args:
        weights: Of the inputs.
        seed: Of the stage.
        run: What the lane was opened with.
    """

    def __init__(self, weights: Sequence[float], seed: int, run: LaneRun) -> None:
        self._shares, self._words = Shares(weights), (seed, run.epoch, run.lane)
        self._of, self._picks = -1, [0]

    def take(self, first: int, count: int) -> list[int]:
        """Return the picks of these numbers, from 1 to ``count`` of them."""
        block, start = divmod(first, self._shares.size)
        if block != self._of:
            self._of = block
            self._picks = shuffled(self._shares.quotas(block), *self._words, block).tolist()
        return self._picks[start : start + count]


_OPENERS: dict[type[nodes.StageNode], Callable[[Any, LaneRun, str], LaneStage]] = {
    nodes.StreamNode: _open_stream,
    nodes.FilterNode: _open_filter,
    nodes.FlatMapNode: _open_flat_map,
    nodes.ShuffleNode: _open_shuffle,
    nodes.PackNode: _open_pack,
    nodes.TakeNode: _open_take,
    nodes.SkipNode: _open_skip,
    nodes.EnumerateNode: _open_enumerate,
    nodes.CacheNode: _open_cache,
    nodes.RepeatNode: _open_repeat,
    nodes.ZipNode: _open_zip,
    nodes.ConcatenateNode: _open_concatenate,
    nodes.MixNode: _open_mix,
}
