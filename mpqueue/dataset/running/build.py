"""Construction of the stages of a lane from the description of a stream.

An indexed subtree is a single stage of a lane, its root. Maps at the end of the subtree are separate stages, so that
statistics and errors name them. Their results still depend on the index.
"""

import threading
from functools import cached_property, partial
from typing import Any

from mpqueue.dataset.description import nodes
from mpqueue.dataset.description.ids import within
from mpqueue.dataset.indexed.readers import ReaderMaker
from mpqueue.dataset.lanes.ahead import AheadStage
from mpqueue.dataset.lanes.gates import CLOSED
from mpqueue.dataset.lanes.joining import JoinedInputs
from mpqueue.dataset.lanes.lane import StreamLane
from mpqueue.dataset.lanes.roots import IndexedRoot, StreamNode, most_fruitless_of
from mpqueue.dataset.lanes.stages import LaneStage
from mpqueue.dataset.running.source import RunnableDataset
from mpqueue.dataset.transformations.repeat import RepeatNode
from mpqueue.plan.ids.history import NO_CHANGES, Changes
from mpqueue.worker.runners.lanes import LaneRun


class DatasetLanes(RunnableDataset):
    """A dataset that is a stream, as a source of lanes.

    Args:
        root: The last stage.
        changes: The changes of the run, with checked weights.

    Attributes:
        changes: The changes. They may be replaced; lanes must then be opened again.
    """

    can_mark = True  # its lanes report the current sample, see `mpqueue.worker.retry_markers`

    def __init__(self, root: nodes.StageNode, changes: Changes = NO_CHANGES) -> None:
        super().__init__(root)
        self._makers, self.changes = Makers(root), changes

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.root, self.changes)

    @property
    def streams(self) -> list[Any]:
        """The sources that are streams; each lane must select its share of them by `mpqueue.worker_info`."""
        return [stage.source for stage in self.root.of_kind(StreamNode)]

    @cached_property
    def _may_change_unseen(self) -> bool:
        from mpqueue.system.user_code.shared_state import find_shared_state  # imported here: most streams end

        return find_shared_state([self, self.streams]) is not None

    def open_lane(self, run: LaneRun, *, keeps_tokens: bool = False) -> StreamLane:
        """Open a lane, at its beginning or from ``run.state``.

        Args:
            run: The run that the lane is opened with.
            keeps_tokens: Whether `StreamLane.sample_ids` is used. Batches are then not written into a slot.

        Raises:
            Exception: A user function raised while elements of the saved state were computed again.
        """
        # In an endless stream, the next elements may belong to an epoch that is not requested yet.
        runs_ahead = not (run.endless and self._may_change_unseen)
        opens = partial(open_stages, self.root, is_last=not keeps_tokens, makers=self._makers)
        keeps_whole = any(stage.node.traits.keeps_whole and not stage.node.is_indexed for stage in self.root.stages())
        return StreamLane(opens, run._replace(runs_ahead=runs_ahead), self.changes, keeps_whole=keeps_whole)

    def shape(self) -> list[str]:
        """Return a line for each stage."""
        return nodes.shape_of(self.root)


def open_stages(
    node: nodes.StageNode, run: LaneRun, *, is_last: bool = False, makers: "Makers | None" = None
) -> LaneStage:
    """Open the stages of a lane.

    Args:
        node: The last stage.
        run: The run that the lane is opened with.
        is_last: Whether this is the last stage of the lane.
        makers: The makers of readers of indexed parts, shared by all lanes of a worker; None for separate ones.
    """
    return Opening(makers or Makers(node), run).open(node, run, is_last=is_last)


class Makers:
    """The readers of the indexed parts of a stream, shared by all lanes that are open in a thread.

    Args:
        root: The last stage of the stream.
    """

    # Without a `__dict__`, so that the fingerprint of a source does not include it.
    __slots__ = ("_kept", "_root", "_shared")

    def __init__(self, root: nodes.StageNode) -> None:
        self._root, self._kept = root, threading.local()
        self._shared: dict[int, Any] = {}

    def get(self, seed: int, epoch: int) -> ReaderMaker:
        """Return the maker of readers of this thread, for the current lengths of the sources.

        Args:
            seed: The seed, for stages whose number of elements depends on it.
            epoch: The epoch, for stages whose number of elements differs between epochs.
        """
        lengths = nodes.lengths_of(self._root, seed, epoch)
        kept: ReaderMaker | None = getattr(self._kept, "maker", None)
        if kept is None or kept.lengths != lengths:
            self._kept.maker = kept = ReaderMaker(lengths, self._shared)
        return kept


class Opening:
    """Opens the stages of a lane; inputs of a join are opened on first use.

    Args:
        makers: See `open_stages`.
        run: The run that the lane is opened with.
    """

    def __init__(self, makers: Makers, run: LaneRun) -> None:
        self._maker = makers.get(run.seed, run.epoch)

    def open(self, node: nodes.StageNode, run: LaneRun, *, is_last: bool = False) -> LaneStage:
        """Open a stage and those before it."""
        if node.is_indexed and not node.traits.is_opened_in_lanes:
            return IndexedRoot(node, run, self._maker)
        stage: LaneStage = node.open(self, run, is_last=is_last)
        return stage

    def input(self, node: nodes.LinkNode, run: LaneRun) -> LaneStage:
        """Open the input of a stage."""
        stage, before = self.open(node.input, run), node.input
        # The first stage that holds, counts or merges elements reads ahead. A mix does so itself.
        return AheadStage(stage, before, run) if before.facts.flows and not node.traits.flows else stage

    def inputs(self, node: nodes.JoinNode, run: LaneRun) -> JoinedInputs:
        """Return the inputs of a stage with several, which are opened when they are read."""
        starts = node.starts
        # Exhausted inputs start again. This implicit repeat stage has no row of counts, because the user did not add
        # it.
        repeats = node.repeats_inputs

        def open_input(at: int) -> LaneStage:
            branch = node.branches[at]
            if node.traits.keeps_whole:  # without excluded elements, a `zip` would pair its inputs differently
                inner = run._replace(base=run.base + starts[at], keep=None, gate=CLOSED)
            else:
                part = node.part_name(at)
                inner = run._replace(base=run.base + starts[at], keep=within(part, run.keep), gate=run.gate.inner(part))
            if repeats:
                return RepeatNode(input=branch).opened(self, inner, is_hidden=True)
            stage = self.open(branch, inner)
            # A `concatenate` flows if all of its inputs do. Otherwise the inputs that do have an entry each.
            is_entry = node.traits.flows and branch.facts.flows and not node.facts.flows
            return AheadStage(stage, branch, inner) if is_entry else stage

        def bound(at: int) -> int | None:
            return self._bound(node.branches[at])

        return JoinedInputs(
            open_input,
            None if repeats or not self._has_endless(node) else bound,
            lambda at: not node.branches[at].facts.has_stream,
            lambda at: node.branches[at].facts.flows,
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
            elif not part.is_indexed and not isinstance(part, RepeatNode):
                stack += part.inputs
        return sum(bounds) if bounds else None
