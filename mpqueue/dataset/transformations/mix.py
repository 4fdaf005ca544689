"""The stage `mix`: elements of several inputs, in the proportions of their weights.

A mix of many inputs needs a few elements of each at a time, and a block takes as long as dozens of small elements. It
is therefore the entry of the lane itself (see `mpqueue.dataset.lanes.ahead`), and reads ahead under the same
conditions: at most 8,192 elements of all inputs, and from each input what takes about 50 us. In a mix of 100
filtered streams of integers, this reduces the time per element from 13 us to 2 us, the same as in a mix of 10.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, ClassVar

import numpy as np

from mpqueue.dataset.description.ids import Keep, SampleIds
from mpqueue.dataset.description.nodes import JoinNode, Stop, Traits, inner_epoch
from mpqueue.dataset.indexed.readers import IndexedRun, JoinReader, Positions, ReaderMaker, by_part
from mpqueue.dataset.lanes.joining import Branch, BranchedStage, JoinedInputs
from mpqueue.dataset.lanes.repeating import RepeatStage
from mpqueue.dataset.lanes.stages import Block, Token
from mpqueue.dataset.mix.arithmetic import Counts
from mpqueue.dataset.mix.picks import FEW_POSITIONS, MixBlock, MixPicks
from mpqueue.dataset.mix.schedule import Change, Course, Phase, course_of, plan_of, spans_of
from mpqueue.dataset.mix.weights import Name, Schedule, Weights, shown_schedule
from mpqueue.worker.runners.lanes import LaneRun

_MOST_AHEAD, _MOST_EACH = 8192, 256  # elements of all inputs, and of one
_FEW = 128  # calls: eight times as many as a snapshot waits for, see `mpqueue.dataset.lanes.lane`
_MAX_BLOCKS = 8  # of a mix that a reader keeps
_MAX_COURSES = 4  # epochs computed at the same time


class MixReader(JoinReader):
    """Elements of all inputs, in the proportions of their weights."""

    node: "MixNode"

    def __init__(self, node: "MixNode", maker: ReaderMaker) -> None:
        super().__init__(node, maker)
        # Without changes of the weights, all epochs have the same phases.
        self._same = None if node.changes else node.course(self.lengths, 0, 0)
        self._courses: dict[tuple[int, int], Course] = {}
        self._blocks: dict[tuple[int, int, int, int], MixBlock] = {}

    def at(self, positions: Positions, run: IndexedRun) -> list[Any]:
        """Return the elements at these indices."""
        return self._gathered(positions, run, lambda at, inner, within: self.branch(at).at(inner, within))

    def _gathered(
        self, positions: Positions, run: IndexedRun, read: Callable[[int, list[int], IndexedRun], list[Any]]
    ) -> list[Any]:
        """Return the elements that a function reads of each input."""
        if len(positions) <= FEW_POSITIONS:
            return by_part(
                positions,
                lambda position: self._find(position, run),
                lambda part, inner: read(part[0], inner, self._inner(part[0], part[1], run)),
            )
        branches, indices = self._find_all(np.asarray(positions), run)
        # Group the indices by input, in ascending order within each input.
        order = np.argsort(branches, kind="stable")
        ordered = branches[order]
        bounds = np.flatnonzero(np.diff(ordered, prepend=-1, append=-1)).tolist()
        rows, ordered_indices, inputs = order.tolist(), indices[order].tolist(), ordered[bounds[:-1]].tolist()
        elements: list[Any] = [None] * len(positions)
        for row_index, at in enumerate(inputs):
            start, end = bounds[row_index], bounds[row_index + 1]
            for begun, mine, inner in self._passes(at, rows[start:end], ordered_indices[start:end]):
                values = read(at, inner, self._inner(at, begun, run))
                for row, value in zip(mine, values, strict=True):
                    elements[row] = value
        return elements

    def _passes(self, at: int, rows: list[int], indices: list[int]) -> list[tuple[int, list[int], list[int]]]:
        """Return the passes over an input: the number of each, the rows of its elements, and their indices."""
        length = self.lengths[at]
        # With "first", no dataset starts again: all elements are of its first pass.
        if self.node.stop == "first" or not length:
            return [(0, rows, indices)]
        first, last = min(indices) // length, max(indices) // length
        if first == last:
            return [(first, rows, [index - first * length for index in indices] if first else indices)]
        of_pass: dict[int, tuple[list[int], list[int]]] = {}
        for row, index in zip(rows, indices, strict=True):
            begun, inner = divmod(index, length)
            lists = of_pass.setdefault(begun, ([], []))
            lists[0].append(row)
            lists[1].append(inner)
        return [(begun, *of_pass[begun]) for begun in sorted(of_pass)]

    def _find_all(self, positions: Counts, run: IndexedRun) -> tuple[Counts, Counts]:
        """Return the inputs that provide these indices, and the indices of their elements."""
        branches, indices = np.empty_like(positions), np.empty_like(positions)
        for phase, rows in self._course(run).grouped(positions):
            mine, within = self._find_in(phase, positions[rows] - phase.start, run)
            branches[rows] = mine
            indices[rows] = within if phase.before is None else within + phase.before[mine]
        return branches, indices

    def _find_in(self, phase: Phase, positions: Counts, run: IndexedRun) -> tuple[Counts, Counts]:
        """Return the same for indices within a phase."""
        shares = phase.extent.shares
        blocks, inside = np.divmod(positions, shares.size)
        branches, indices = np.empty_like(positions), np.empty_like(positions)
        for block in set(blocks.tolist()):
            rows = np.flatnonzero(blocks == block)
            order_block = self._block(phase, block, run)
            mine = inside[rows]
            branches[rows] = order_block.order[mine]
            indices[rows] = order_block.ranks(mine)
        indices += shares.before_each(blocks, branches)
        return branches, indices

    def _find(self, position: int, run: IndexedRun) -> tuple[tuple[int, int], int]:
        """Return the input and the pass that provide an index, and the index of the element in the pass."""
        phase = self._course(run).at(position)
        shares = phase.extent.shares
        block, inside = divmod(position - phase.start, shares.size)
        order = self._block(phase, block, run).order
        at = int(order[inside])
        index = int(shares.before_each(block, at)) + int(np.count_nonzero(order[:inside] == at))
        if phase.before is not None:
            index += int(phase.before[at])
        length = self.lengths[at]
        if self.node.stop == "first" or not length:
            return (at, 0), index
        begun, index = divmod(index, length)
        return (at, begun), index

    def _inner(self, at: int, begun: int, run: IndexedRun) -> IndexedRun:
        inner = self.within(at, run)
        return inner if self.node.stop == "first" else inner._replace(epoch=inner_epoch(run.epoch, begun, None))

    def _block(self, phase: Phase, block_index: int, run: IndexedRun) -> MixBlock:
        seed = self.order_seed(run)
        key = seed, run.epoch, phase.start, block_index
        block = self._blocks.get(key)
        if block is None:
            # Drop the oldest block: indices usually ascend, so later requests need newer blocks.
            if len(self._blocks) >= _MAX_BLOCKS:
                del self._blocks[next(iter(self._blocks))]
            block = self._blocks[key] = MixBlock(phase.extent.order(block_index, seed, run.epoch, *phase.key))
        return block

    def _course(self, run: IndexedRun) -> Course:
        if self._same is not None:
            return self._same
        key = self.order_seed(run), run.epoch
        course = self._courses.get(key)
        if course is None:
            if len(self._courses) >= _MAX_COURSES:
                del self._courses[next(iter(self._courses))]
            course = self._courses[key] = self.node.course(self.lengths, *key)
        return course

    def num_by_input(self, positions: Positions, run: IndexedRun) -> Mapping[int, int]:
        """Return how many of these elements are from each input."""
        inputs: list[int] = []
        for phase, rows in self._course(run).grouped(np.asarray(positions)):
            blocks, inside = np.divmod(np.asarray(positions)[rows] - phase.start, phase.extent.shares.size)
            for block in set(blocks.tolist()):
                inputs += self._block(phase, block, run).order[inside[blocks == block]].tolist()
        return Counter(inputs)

    def origin(self, position: int, run: IndexedRun) -> str:
        """Return a description of a sample."""
        (at, begun), index = self._find(position, run)
        return self.branch(at).origin(index, self._inner(at, begun, run))

    def sample_ids(self, positions: Positions, run: IndexedRun) -> list[SampleIds]:
        """Return the ids of the samples at these indices."""
        return self._gathered(positions, run, self.ids_within)


class MixStage(BranchedStage):
    """Elements of several inputs, in the proportions of their weights.

    With ``stop="first"``, the mix ends when the next element would be from an exhausted input. Otherwise the inputs are
    endless `RepeatStage` objects. With "all", the mix ends when the last input starts again; with "never", it does not
    end.

    Args:
        inputs, node, run: See `JoiningStage`.
    """

    node: "MixNode"

    def __init__(self, inputs: JoinedInputs, node: "MixNode", run: LaneRun) -> None:
        super().__init__(inputs, node, run)
        self._stop, self._next_pick = node.stop, 0
        self._changed = 0, 0  # the sample of the pick where the latest new weights began, and the changes so far
        self._plan(node.schedule)
        self._most_ahead = 0  # elements of an input that this call may read ahead
        self._is_wide = False  # more elements wait than calls before a snapshot use up
        self._keep: Keep | None = None  # of the latest call
        self._done: set[int] = set()  # "all": inputs that have started again; "never": inputs without elements
        self._num_left = 0  # of the other inputs that the end of the mix depends on in this phase

    def pull(self, count: int) -> Block:
        """Return the next elements, all of one phase."""
        num_changes = len(self.run.weights)
        if num_changes != self._changed[1]:
            # The first pick of each lane is the pick of sample 0: its new weights replace the whole schedule.
            self._change(self._next_pick and self._next_pick * self.run.num_lanes + self.run.lane, num_changes)
        values: list[Any] = []
        tokens: list[Token] = []
        # Only large elements are requested one by one. They must not pile up here.
        is_ahead = count > 1 and self.run.may_run_ahead and self.run.skip is None
        most = min(_MOST_EACH, _MOST_AHEAD // len(self.node.branches)) if is_ahead else 0
        # Before a snapshot, a lane uses up what waits. With many inputs, that would be only a small part of it.
        self._is_wide = most * len(self.node.branches) > _FEW * count
        self._most_ahead = most if self._is_wide or self.run.ahead.is_on else 0
        if self.run.gate.keep is not self._keep:
            self._keep = self.run.gate.keep
            for at, branch in self._branches.items():
                if self._inputs.flows(at):
                    branch.exclude(branch.stage.run.gate.keep)
        while not tokens and not self._has_ended:
            picks = self._picks.take(self._next_pick, count)
            if self._picks.phase != self._phase:
                self._enter_phase(self._picks.phase)
            if not self._has_ended:
                self._give(picks, values, tokens)
        self.num_in = self.num_out = self.num_out + len(tokens)
        return values, tokens

    def _plan(self, schedule: Schedule) -> None:
        """Switch to the picks of a schedule."""
        self._spans, self._phase = spans_of(schedule), -1
        # A separate object, also for the counts: CPython 3.11 stores more than 30 attributes of an instance so that
        # each access takes longer, 0.2 us per element here.
        self._picks = MixPicks(self._spans, (self.order_seed, self.run.epoch, self.run.lane), self.run)

    def _change(self, sample: int, num_changes: int) -> None:
        """Use new weights from the pick of a sample on."""
        self._changed = sample, num_changes
        self._plan(((sample, self.run.weights[num_changes - 1]),))

    def _enter_phase(self, phase_index: int) -> None:
        """Update the inputs that the end of the mix depends on, before the first pick of a phase."""
        self._phase = phase_index
        # Inputs of weight 0 are never read, so the mix does not wait for their ends.
        needed = self._spans[phase_index].needed.tolist()
        self._num_left = len(needed) - len(self._done.intersection(needed))
        # The inputs that this phase lacks may have been the only ones that the mix had to read on for.
        self._has_ended = self._stop != "first" and not self._num_left

    def _give(self, picks: list[int], values: list[Any], tokens: list[Token]) -> None:
        """Add elements by these picks, until an input must be read: its error or end would occur too early."""
        for at_pick, at in enumerate(picks):
            branch = self._branches.get(at)
            if branch is None or not branch.tokens:
                if tokens:
                    # Return the picked elements before an input is read: its error or end belongs to the next pick.
                    return
                branch = self._branch(at)
                if not self._fill(at, branch, picks[at_pick:].count(at)):
                    if self._has_ended:
                        return
                    self._next_pick += 1  # skip the pick of an input without elements in this lane
                    continue
            values.append(branch.values.pop(0))
            tokens.append((at, branch.tokens.pop(0)))
            self._next_pick += 1

    def _fill(self, at: int, branch: Branch, count: int) -> bool:
        """Read the elements picked from an input; return False at the end of the mix, or of an input."""
        try:
            has_elements = self._read(at, branch, count)
        finally:
            # Also if it raised: a lane that is opened again from a snapshot knows that the input has started again.
            if self._stop != "first":
                self._note(at, branch)
                self._has_ended = self._stop == "all" and not self._num_left
        if not has_elements:
            self._has_ended = self._stop == "first" or not self._num_left
        return has_elements and not self._has_ended

    def _read(self, at: int, branch: Branch, count: int) -> bool:
        """Read elements of an input; return False if it is exhausted."""
        if not self._inputs.flows(at):
            return branch.fill(count) > 0
        # The entry of the lane, see `mpqueue.dataset.lanes.ahead`. The next element of a user's stream may take long to
        # arrive, so such streams are not read ahead.
        most = self._most_ahead if self._inputs.can_reopen(at) else 0
        while branch.fill_ahead(count, most) if most else branch.fill(count):
            branch.exclude(branch.stage.run.gate.keep)
            if branch.tokens:
                return True
        return False

    def is_ahead(self) -> bool:
        """Return whether elements of an input wait here, and will soon be used up."""
        return super().is_ahead() or (not self._is_wide and any(each.tokens for each in self._branches.values()))

    @staticmethod
    def _lacks_elements(branch: Branch) -> bool:
        """Return whether an input that repeats has no elements in this lane."""
        assert isinstance(branch.stage, RepeatStage)
        return branch.stage.has_ended and not branch.tokens

    def _note(self, at: int, branch: Branch) -> None:
        stage = branch.stage
        assert isinstance(stage, RepeatStage)
        is_done = stage.num_passes > 0 if self._stop == "all" else self._lacks_elements(branch)
        if is_done and at not in self._done:
            self._done.add(at)
            self._num_left -= at in self._spans[self._phase].needed

    def num_by_input(self, tokens: Sequence[Token]) -> Mapping[int, int]:
        """Return how many of these elements are from each input."""
        return Counter(map(itemgetter(0), tokens))

    def get_state(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the index of the next pick, and the start of the latest new weights."""
        changed = {"changed": list(self._changed)} if self._changed[1] else {}
        self._save_with(states, self._held_by_branch(held), {"pick": self._next_pick, **changed})

    def set_state(self, states: Iterator[Any]) -> None:
        """Restore a saved state."""
        state = self._load_own(states)
        self._next_pick = state["pick"]
        if "changed" in state:
            self._change(*state["changed"])
        if self._stop != "first":
            for at, branch in self._branches.items():
                self._note(at, branch)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class MixNode(JoinNode):
    """Elements of all inputs, in the proportions of their weights.

    Attributes:
        weights: A weight for each input; they need not sum to 1.
        stop: When the mix ends.
        names: The names of the inputs; may be empty.
        later: The rest of the schedule of an epoch: pairs of the first sample and the weights from there.
        changes: The changes of the weights while the mix is read, in ascending order.
    """

    name: ClassVar[str] = "mix"
    traits: ClassVar[Traits] = Traits(passes_elements=True, draws_order=True, is_mix=True, is_opened_in_lanes=True)
    reader: ClassVar[Any] = MixReader
    lane_stage: ClassVar[Any] = MixStage
    weights: Weights
    stop: Stop = "first"
    names: tuple[str, ...] = ()
    later: Schedule = ()
    changes: tuple[Change, ...] = ()

    def own_traits(self) -> Traits:
        """Return the traits: with changed weights, the length differs between epochs, and depends on the seed."""
        return self.traits._replace(varies=bool(self.changes))

    @property
    def schedule(self) -> Schedule:
        """The schedule given at construction."""
        return (0, self.weights), *self.later

    @property
    def part_names(self) -> Sequence[Name]:
        """The names of the inputs, or their indices if unnamed."""
        return self.names or range(len(self.branches))

    def part_name(self, at: int) -> Name:
        """Return the name of an input, or its index."""
        return self.names[at] if self.names else at

    def course(self, lengths: Sequence[int | None], seed: int, epoch: int) -> Course:
        """Return the phases of an indexed mix of inputs with these lengths in an epoch.

        Args:
            lengths: The lengths of the inputs.
            seed: The seed of the stage.
            epoch: The epoch.
        """
        return course_of(plan_of(self.schedule, self.changes, epoch), tuple(lengths), self.stop, (seed, epoch))

    def length_by(self, lengths: Sequence[int | None]) -> int | None:
        """Return the number of elements of the mix, which is the same for all seeds unless the weights are changed."""
        return self.length_in(lengths, 0, 0)

    def length_in(self, lengths: Sequence[int | None], seed: int, epoch: int) -> int | None:
        """Return the number of elements of the mix in an epoch; ``seed`` is the seed of the stage."""
        return self.course(lengths, seed, epoch).length

    def _shown(self) -> Iterator[str]:
        # Without the changes: the line names the stage in statistics and states, and must remain the same.
        yield f"weights={shown_schedule(self.schedule, self.names)}"
        yield f"stop={self.stop!r}"

    def shape_line(self) -> str:
        """Return the line without the names, which can be added to a mix after its state was saved."""
        return f"{self.name}(weights={shown_schedule(self.schedule, ())}, stop={self.stop!r})"

    def order_line(self) -> str:
        """Return the line without the names."""
        return self.shape_line()

    @classmethod
    def key_of(cls, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields that determine the elements."""
        return {name: value for name, value in fields.items() if name not in {"names", "changes"}}

    @property
    def repeats_inputs(self) -> bool:
        """True if inputs start again at their end."""
        return self.stop != "first"
