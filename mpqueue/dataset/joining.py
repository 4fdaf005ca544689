"""Stages of a lane with several inputs: `zip`, `concatenate`, `mix`.

Each stage works lane by lane, on lane l of its inputs. A block is requested from an input only when its next element is
the next one needed. An error or the end of an input therefore occurs at the same element as if elements were requested
one by one. Elements that are not needed yet wait, and a snapshot contains their tokens.

A mix of many inputs needs a few elements of each at a time, and a block takes as long as dozens of small elements. It
is therefore the entry of the lane itself (see `mpqueue.dataset.ahead`), and reads ahead under the same conditions: at
most 8,192 elements of all inputs, and from each input what takes less than 0.1 ms. In a mix of 100 filtered streams of
integers, this reduces the time per element from 13 us to 2 us, the same as in a mix of 10.

An input is opened on first use, and an input of a concatenation is closed at its end: there may be 10,000 inputs
in each of many lanes. A snapshot contains only the inputs that have been opened.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import itemgetter
from typing import Any, ClassVar

import numpy as np

from mpqueue.dataset.held import together
from mpqueue.dataset.ids import Keep, SampleIds, concatenated, prefixed
from mpqueue.dataset.indexed import IndexedRun, JoinReader, Places, ReaderMaker, by_part, whole_or_none
from mpqueue.dataset.mixing import Counts, ranks_of, shares_of, shuffled
from mpqueue.dataset.nodes import JoinNode, Stop, inner_epoch
from mpqueue.dataset.passes import RepeatStage, share_of
from mpqueue.dataset.phases import Change, Course, Phase, WeightSpan, course_of, key_of, plan_of, spans_of
from mpqueue.dataset.stages import (
    Block,
    LaneStage,
    Token,
    by_part_again,
    found_by_part,
)
from mpqueue.dataset.weights import Name, Schedule, Weights, shown_schedule
from mpqueue.telemetry.clock import clock_ns
from mpqueue.telemetry.stage_rows import StageRow
from mpqueue.worker.lanes import LaneRun

_MOST_AHEAD, _CHEAP_NS = 8192, 50_000
_MAX_BLOCKS = 8  # of a mix that a reader keeps
_MAX_COURSES = 4  # the epochs whose elements are computed at the same time


class _Branch:
    """An open input with its waiting elements.

    Args:
        stage: The input.

    Attributes:
        values: The waiting elements.
        tokens: The tokens of the waiting elements.
    """

    def __init__(self, stage: LaneStage) -> None:
        self.stage = stage
        self.values: list[Any] = []
        self.tokens: list[Token] = []
        self._num_cheap = 0  # number of elements in a cheap block

    def fill(self, count: int) -> int:
        """Read elements if none wait; return how many of the ``count`` needed elements are available."""
        if not self.tokens:
            self.values, tokens = self.stage.pull(count)
            self.tokens = list(tokens)
        return min(count, len(self.tokens))

    def fill_ahead(self, count: int, most: int) -> int:
        """Do the same as `fill`, but read up to ``most`` elements while a block of them is cheap."""
        if self.tokens:
            return min(count, len(self.tokens))
        started = clock_ns()
        num_waiting = self.fill(max(count, min(most, self._num_cheap)))
        took_ns = clock_ns() - started
        # Double the block while its time is mostly the fixed cost of a block.
        self._num_cheap = (
            2 * num_waiting if took_ns < _CHEAP_NS else num_waiting // 2 if took_ns > 2 * _CHEAP_NS else num_waiting
        )
        return min(count, num_waiting)

    def leave_out(self, keep: Keep | None) -> None:
        """Leave out the waiting elements that have excluded samples."""
        if keep is not None and self.tokens:
            keeps = keep(self.stage.sample_ids(self.tokens))
            self.values, self.tokens = list(compress(self.values, keeps)), list(compress(self.tokens, keeps))

    def take(self, count: int) -> Block:
        """Return the first waiting elements."""
        block = self.values[:count], self.tokens[:count]
        del self.values[:count], self.tokens[:count]
        return block

    def set_state(self, states: Iterator[Any], tokens: Sequence[Any]) -> None:
        """Restore a saved state."""
        self.stage.set_state(states)
        self.values, self.tokens = self.stage.held(tokens)


class JoinedInputs:
    """The inputs of a stage with several inputs, opened on demand.

    Args:
        open_input: A function that opens the input with a number.
        bound: A function that returns the `LaneStage.most_fruitless` of an input that is not open; None if no input can
            be endless.
        can_reopen: A function that returns whether elements of an input can be computed again without the input's
            state.
        flows: A function that returns whether an input flows, see `mpqueue.dataset.nodes.Facts`.
    """

    def __init__(
        self, open_input: Callable[[int], LaneStage], bound: Callable[[int], int | None] | None,
        can_reopen: Callable[[int], bool], flows: Callable[[int], bool],
    ) -> None:  # fmt: skip
        self.open, self.bound, self.can_reopen, self.flows = open_input, bound, can_reopen, flows


class JoiningStage(LaneStage):
    """A stage with several inputs.

    Args:
        inputs: The inputs.
        node, run: See `LaneStage`.
    """

    node: JoinNode

    def __init__(self, inputs: JoinedInputs, node: JoinNode, run: LaneRun) -> None:
        super().__init__(node, run)
        self._inputs = inputs
        self._branches: dict[int, _Branch] = {}  # open inputs, by number
        self._closed_rows: list[StageRow] = []  # of inputs that were closed
        self._bounds: tuple[int, list[int]] = (-1, [])  # of inputs that are not open yet
        self._has_ended = False

    def _branch(self, at: int) -> _Branch:
        branch = self._branches.get(at)
        if branch is None:
            branch = self._branches[at] = _Branch(self._inputs.open(at))
        return branch

    def _close(self, at: int) -> None:
        self._branches.pop(at).stage.count_to(self._closed_rows)

    def most_fruitless(self) -> int | None:
        """Return the sum over all endless inputs."""
        bound = self._inputs.bound
        if bound is None:
            return None
        if self._bounds[0] != len(self._branches):
            unopened = [bound(at) for at in range(len(self.node.branches)) if at not in self._branches]
            self._bounds = len(self._branches), [most for most in unopened if most is not None]
        bounds = list(self._bounds[1])
        for branch in self._branches.values():
            most = branch.stage.most_fruitless()
            if most is not None:
                bounds.append(most)
        return sum(bounds) if bounds else None

    def _save_with(self, states: list[Any], held: dict[int, list[Token]], own: dict[str, Any]) -> None:
        """Add the open inputs with their waiting elements, the state of a subclass, and the states of the inputs."""
        begun = [[at, list(branch.tokens)] for at, branch in self._branches.items()]
        states.append({"begun": begun, "ended": self._has_ended, **own})
        for at, branch in self._branches.items():
            branch.stage.get_state(states, together(held.get(at, ()), branch.tokens))

    def _load_own(self, states: Iterator[Any]) -> Any:
        """Restore a saved state, and return the item of this stage."""
        state = next(states)
        for at, tokens in state["begun"]:
            self._branch(at).set_state(states, tokens)
        self._has_ended = state["ended"]
        return state

    def set_state(self, states: Iterator[Any]) -> None:
        """Restore a saved state."""
        self._load_own(states)

    def count_to(self, rows: list[StageRow]) -> None:
        """Add the rows of the inputs that were opened, and then the rows of this stage."""
        rows += self._closed_rows
        for branch in self._branches.values():
            branch.stage.count_to(rows)
        super().count_to(rows)


class ZipReader(JoinReader):
    """Tuples of one element of each input."""

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return tuples. A tuple is left out as a whole: the elements of its inputs may belong together."""
        if run.skip is not None:
            run = run._replace(skip=None)
        columns = []
        for at in range(len(self._inputs)):
            columns.append(self.branch(at).at(places, self.within(at, run)))  # noqa: PERF401 - a comprehension would add a C frame per call
        return list(zip(*columns, strict=True))

    def origin(self, place: int, run: IndexedRun) -> str:
        """Return a description of the samples of a tuple."""
        words = []
        for at in range(len(self._inputs)):
            words.append(self.branch(at).origin(place, self.within(at, run)))  # noqa: PERF401
        return " with ".join(words)

    def sample_ids(self, places: Places, run: IndexedRun) -> list[SampleIds]:
        """Return the ids of the samples of tuples."""
        keep, run, columns = run.keep, run._replace(keep=None), []
        for at in range(len(self._inputs)):
            columns.append(self.ids_within(at, places, self.within(at, run)))  # noqa: PERF401
        return whole_or_none([concatenated(ids) for ids in zip(*columns, strict=True)], keep)


class ZipStage(JoiningStage):
    """Tuples of one element of each input, until an input is exhausted."""

    def pull(self, count: int) -> Block:
        """Return the next tuples; their tokens are tuples of the elements' tokens."""
        if self._has_ended:
            return [], []
        for at in range(len(self.node.branches)):
            # At most as many as the inputs before have: an error or the end of later elements would occur too early.
            count = self._branch(at).fill(count)
            if not count:
                # Permanently: the waiting elements of the other inputs have no partner.
                self._has_ended = True
                return [], []
        blocks = [self._branches[at].take(count) for at in range(len(self.node.branches))]
        self.num_in += count * len(blocks)
        self.num_out += count
        values = list(zip(*[block[0] for block in blocks], strict=True))
        return values, list(zip(*[block[1] for block in blocks], strict=True))

    def get_state(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the tokens of the waiting elements."""
        columns = {at: [token[at] for token in held] for at in range(len(self.node.branches))}
        self._save_with(states, columns, {})

    def again(self, tokens: Sequence[Token]) -> list[Any]:
        """Return these tuples, computed again."""
        columns = []
        for at in range(len(self.node.branches)):
            columns.append(self._branch(at).stage.again([token[at] for token in tokens]))  # noqa: PERF401
        return list(zip(*columns, strict=True))

    def sample_ids(self, tokens: Sequence[Token]) -> list[SampleIds]:
        """Return the ids of the samples of these tuples."""
        columns = []
        for at in range(len(self.node.branches)):
            ids = self._branch(at).stage.sample_ids([token[at] for token in tokens])
            columns.append(prefixed(self.node.part_name(at), ids))
        return [concatenated(ids) for ids in zip(*columns, strict=True)]


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class ZipNode(JoinNode):
    """Tuples of one element of each input, as many as in the shortest input."""

    name: ClassVar[str] = "zip"
    merges: ClassVar[bool] = True
    keeps_whole: ClassVar[bool] = True
    reader: ClassVar[Any] = ZipReader
    lane_stage: ClassVar[Any] = ZipStage

    @property
    def keeps_order(self) -> bool:
        """False: a shorter input ends the tuples, and elements of the other inputs are read and not used."""
        return False

    def length_by(self, lengths: Sequence[int | None]) -> int | None:
        """Return the minimum length."""
        return min((length for length in lengths if length is not None), default=None)


class BranchedStage(JoiningStage):
    """A stage that takes each element from one of its inputs. A token is a pair (number of the input, token)."""

    def _held_by_branch(self, held: Sequence[Token]) -> dict[int, list[Token]]:
        of_branch: dict[int, list[Token]] = {}
        for at, token in held:
            of_branch.setdefault(at, []).append(token)
        return of_branch

    def again(self, tokens: Sequence[Token]) -> list[Any]:
        """Return these elements, each computed again by its input."""
        return by_part_again(tokens, self._stage_of)

    def sample_ids(self, tokens: Sequence[Token]) -> list[SampleIds]:
        """Return the ids of these elements, each with the name of its input."""
        return found_by_part(
            tokens, lambda at, inner: prefixed(self.node.part_name(at), self._stage_of(at).sample_ids(inner))
        )

    def _stage_of(self, at: int) -> LaneStage:
        branch = self._branches.get(at)
        return self._inputs.open(at) if branch is None else branch.stage


class ConcatenateReader(JoinReader):
    """The elements of one input after another."""

    def __init__(self, node: "ConcatenateNode", maker: ReaderMaker) -> None:
        super().__init__(node, maker)
        ends: list[int] = []
        for length in self.lengths:
            if length is None:
                break  # later inputs are never reached
            ends.append((ends[-1] if ends else 0) + length)
        self._ends = ends

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return the elements of the inputs at these indices."""
        return by_part(places, self._find, lambda at, inner: self.branch(at).at(inner, self.within(at, run)))

    def _find(self, place: int) -> tuple[int, int]:
        at = bisect_right(self._ends, place)
        return at, place - self._ends[at - 1] if at else place

    def origin(self, place: int, run: IndexedRun) -> str:
        """Return a description of a sample."""
        at, place = self._find(place)
        return self.branch(at).origin(place, self.within(at, run))

    def sample_ids(self, places: Places, run: IndexedRun) -> list[SampleIds]:
        """Return the ids of the samples of the inputs at these indices."""
        return by_part(places, self._find, lambda at, inner: self.ids_within(at, inner, self.within(at, run)))


class ConcatenateStage(BranchedStage):
    """The elements of one input after another."""

    def __init__(self, inputs: JoinedInputs, node: JoinNode, run: LaneRun) -> None:
        super().__init__(inputs, node, run)
        self._at = 0

    def pull(self, count: int) -> Block:
        """Return the next elements."""
        while self._at < len(self.node.branches):
            at = self._at
            values, tokens = self._branch(at).stage.pull(count)
            if tokens:
                self.num_in = self.num_out = self.num_out + len(tokens)
                return values, [(at, token) for token in tokens]
            self._at += 1
            if self._inputs.can_reopen(at):
                self._close(at)
        return [], []

    def get_state(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the number of the current input."""
        of_branch = self._held_by_branch(held)
        # An ended stream keeps the states needed to read its elements again, as long as an element is held.
        for at in [at for at in self._branches if at < self._at and at not in of_branch]:
            self._close(at)
        self._save_with(states, of_branch, {"at": self._at})

    def set_state(self, states: Iterator[Any]) -> None:
        """Restore a saved state."""
        self._at = self._load_own(states)["at"]


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class ConcatenateNode(JoinNode):
    """The elements of one input after another."""

    name: ClassVar[str] = "concatenate"
    flows: ClassVar[bool] = True
    passes_elements: ClassVar[bool] = True
    reader: ClassVar[Any] = ConcatenateReader
    lane_stage: ClassVar[Any] = ConcatenateStage

    def length_by(self, lengths: Sequence[int | None]) -> int | None:
        """Return the sum of the lengths."""
        return None if None in lengths else sum(length for length in lengths if length is not None)

    def num_read(self, place: int, at: int, lengths: Sequence[int | None]) -> int:
        """Return the number of elements of an input before an index, if that input were the last one."""
        before = self.length_by(lengths[:at])
        return 0 if before is None else max(0, place - before)


class PhasePicks:
    """The inputs that provide the elements of a mix in a lane in one phase.

    Each block of picks has the quotas of the weights.

    Args:
        weights: The weights of the inputs.
        words: The key of the picks, which determines their order.

    Attributes:
        parts: The share of each input.
    """

    def __init__(self, weights: Weights, *words: int) -> None:
        self._shares, self._words = shares_of(weights), words
        self.parts = [weight / sum(weights) for weight in weights]
        self._of, self._picks = -1, [0]

    def take(self, first: int, count: int) -> list[int]:
        """Return the picks from number ``first`` on: at least 1, at most ``count``."""
        block, start = divmod(first, self._shares.size)
        if block != self._of:
            self._picks, self._of = self._order(block).tolist(), block
        return self._picks[start : start + count]

    def _order(self, block: int) -> Counts:
        return shuffled(self._shares.datasets(block), *self._words, block)


class MixPicks:
    """The inputs that provide the elements of a mix in a lane.

    Args:
        spans: The weights of the places of the mix.
        words: See `PhasePicks`.
        run: The run that the lane was opened with.

    Attributes:
        phase: The number of the phase of the latest result of `take`; -1 before that.
    """

    def __init__(self, spans: Sequence[WeightSpan], words: tuple[int, ...], run: LaneRun) -> None:
        # Pick n of lane l is place n * lanes + l of the mix.
        self._starts = [share_of(span.start, run) for span in spans]
        self._phases = [PhasePicks(span.weights, *words, *key_of(span.start)) for span in spans]
        self._start, self._end, self.phase = 0, 0, -1

    def take(self, first: int, count: int) -> list[int]:
        """Return the picks from number ``first`` on, all of one phase: at least 1, at most ``count``."""
        if not self._start <= first < self._end:
            self.phase = number = bisect_right(self._starts, first) - 1
            self._start, self._end = self._starts[number], [*self._starts[1:], 1 << 63][number]
        return self._phases[self.phase].take(first - self._start, min(count, self._end - first))


_FEW_PLACES = 8  # counting for each of these costs less than ranking a whole block


class _Block:
    """A block of a mix.

    Args:
        order: The input that provides the element at each index of the block.
    """

    __slots__ = ("_ranks", "order")

    def __init__(self, order: Counts) -> None:
        self.order = order
        self._ranks: Counts | None = None

    def ranks(self, places: Counts) -> Any:
        """Return, for each index, the number of earlier indices in the block with the same input."""
        if self._ranks is None:
            if len(places) <= _FEW_PLACES:
                order = self.order
                return [int(np.count_nonzero(order[:place] == order[place])) for place in places.tolist()]
            self._ranks = ranks_of(self.order)
        return self._ranks[places]


class MixReader(JoinReader):
    """Elements of all inputs, in the proportions of their weights."""

    node: "MixNode"

    def __init__(self, node: "MixNode", maker: ReaderMaker) -> None:
        super().__init__(node, maker)
        # Without changes of the weights, all epochs have the same phases.
        self._same = None if node.changes else node.course(self.lengths, 0, 0)
        self._courses: dict[tuple[int, int], Course] = {}
        self._blocks: dict[tuple[int, int, int, int], _Block] = {}

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return the elements at these indices."""
        return self._gathered(places, run, lambda at, inner, within: self.branch(at).at(inner, within))

    def _gathered(
        self, places: Places, run: IndexedRun, read: Callable[[int, list[int], IndexedRun], list[Any]]
    ) -> list[Any]:
        """Return the elements that a function reads of each input."""
        if len(places) <= _FEW_PLACES:
            return by_part(
                places,
                lambda place: self._find(place, run),
                lambda part, inner: read(part[0], inner, self._inner(part[0], part[1], run)),
            )
        branches, numbers = self._find_all(np.asarray(places), run)
        # Group the indices by input, in ascending order within each input.
        order = np.argsort(branches, kind="stable")
        ordered = branches[order]
        bounds = np.flatnonzero(np.diff(ordered, prepend=-1, append=-1)).tolist()
        rows, ordered_numbers, inputs = order.tolist(), numbers[order].tolist(), ordered[bounds[:-1]].tolist()
        elements: list[Any] = [None] * len(places)
        for number, at in enumerate(inputs):
            start, end = bounds[number], bounds[number + 1]
            for begun, mine, inner in self._passes(at, rows[start:end], ordered_numbers[start:end]):
                values = read(at, inner, self._inner(at, begun, run))
                for row, value in zip(mine, values, strict=True):
                    elements[row] = value
        return elements

    def _passes(self, at: int, rows: list[int], numbers: list[int]) -> list[tuple[int, list[int], list[int]]]:
        """Return the passes over an input: the number of each, the rows of its elements, and their indices."""
        length = self.lengths[at]
        # With "first", no dataset starts again, and the number of an element is its index.
        if self.node.stop == "first" or not length:
            return [(0, rows, numbers)]
        first, last = min(numbers) // length, max(numbers) // length
        if first == last:
            return [(first, rows, [number - first * length for number in numbers] if first else numbers)]
        of_pass: dict[int, tuple[list[int], list[int]]] = {}
        for row, number in zip(rows, numbers, strict=True):
            begun, inner = divmod(number, length)
            lists = of_pass.setdefault(begun, ([], []))
            lists[0].append(row)
            lists[1].append(inner)
        return [(begun, *of_pass[begun]) for begun in sorted(of_pass)]

    def _find_all(self, places: Counts, run: IndexedRun) -> tuple[Counts, Counts]:
        """Return the inputs that provide these indices, and the numbers of their elements."""
        branches, numbers = np.empty_like(places), np.empty_like(places)
        for phase, rows in self._course(run).grouped(places):
            mine, within = self._find_in(phase, places[rows] - phase.start, run)
            branches[rows] = mine
            numbers[rows] = within if phase.before is None else within + phase.before[mine]
        return branches, numbers

    def _find_in(self, phase: Phase, places: Counts, run: IndexedRun) -> tuple[Counts, Counts]:
        """Return the same for indices within a phase."""
        shares = phase.extent.shares
        blocks, inside = np.divmod(places, shares.size)
        branches, numbers = np.empty_like(places), np.empty_like(places)
        for block in set(blocks.tolist()):
            rows = np.flatnonzero(blocks == block)
            order_block = self._block(phase, block, run)
            mine = inside[rows]
            branches[rows] = order_block.order[mine]
            numbers[rows] = order_block.ranks(mine)
        numbers += shares.before_each(blocks, branches)
        return branches, numbers

    def _find(self, place: int, run: IndexedRun) -> tuple[tuple[int, int], int]:
        """Return the input and the pass that provide an index, and the number of the element in the pass."""
        phase = self._course(run).at(place)
        shares = phase.extent.shares
        block, inside = divmod(place - phase.start, shares.size)
        order = self._block(phase, block, run).order
        at = int(order[inside])
        number = int(shares.before_each(block, at)) + int(np.count_nonzero(order[:inside] == at))
        if phase.before is not None:
            number += int(phase.before[at])
        length = self.lengths[at]
        if self.node.stop == "first" or not length:
            return (at, 0), number
        begun, number = divmod(number, length)
        return (at, begun), number

    def _inner(self, at: int, begun: int, run: IndexedRun) -> IndexedRun:
        inner = self.within(at, run)
        return inner if self.node.stop == "first" else inner._replace(epoch=inner_epoch(run.epoch, begun, None))

    def _block(self, phase: Phase, number: int, run: IndexedRun) -> "_Block":
        seed = self.seed(run)
        key = seed, run.epoch, phase.start, number
        block = self._blocks.get(key)
        if block is None:
            # Drop the oldest block: indices usually ascend, so later requests need newer blocks.
            if len(self._blocks) >= _MAX_BLOCKS:
                del self._blocks[next(iter(self._blocks))]
            block = self._blocks[key] = _Block(phase.extent.order(number, seed, run.epoch, *phase.key))
        return block

    def _course(self, run: IndexedRun) -> Course:
        if self._same is not None:
            return self._same
        key = self.seed(run), run.epoch
        course = self._courses.get(key)
        if course is None:
            if len(self._courses) >= _MAX_COURSES:
                del self._courses[next(iter(self._courses))]
            course = self._courses[key] = self.node.course(self.lengths, *key)
        return course

    def num_by_input(self, places: Places, run: IndexedRun) -> Mapping[int, int]:
        """Return how many of these elements are from each input."""
        inputs: list[int] = []
        for phase, rows in self._course(run).grouped(np.asarray(places)):
            blocks, inside = np.divmod(np.asarray(places)[rows] - phase.start, phase.extent.shares.size)
            for block in set(blocks.tolist()):
                inputs += self._block(phase, block, run).order[inside[blocks == block]].tolist()
        return Counter(inputs)

    def origin(self, place: int, run: IndexedRun) -> str:
        """Return a description of a sample."""
        (at, begun), number = self._find(place, run)
        return self.branch(at).origin(number, self._inner(at, begun, run))

    def sample_ids(self, places: Places, run: IndexedRun) -> list[SampleIds]:
        """Return the ids of the samples at these indices."""
        return self._gathered(places, run, self.ids_within)


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
        self._changed = 0, 0  # the sample of the pick where the latest new weights began, and their number from 1
        self._plan(node.schedule)
        self._is_ahead = False  # this call may read ahead
        self._keep: Keep | None = None  # of the latest call
        run.ahead.is_used |= run.skip is None
        self._done: set[int] = set()  # "all": inputs that have started again; "never": inputs without elements
        self._num_left = 0  # of the other inputs that the end of the mix depends on in this phase

    def pull(self, count: int) -> Block:
        """Return the next elements, all of one phase."""
        num_changes = len(self.run.weights)
        if num_changes != self._changed[1]:
            # The first pick of each lane is that of sample 0: its new weights replace the whole schedule.
            self._change(self._next_pick and self._next_pick * self.run.num_lanes + self.run.lane, num_changes)
        values: list[Any] = []
        tokens: list[Token] = []
        # Only large elements are requested one by one. They must not pile up here.
        self._is_ahead = count > 1 and self.run.ahead.is_on and self.run.may_run_ahead and self.run.skip is None
        if self.run.gate.keep is not self._keep:
            self._keep = self.run.gate.keep
            for at, branch in self._branches.items():
                if self._inputs.flows(at):
                    branch.leave_out(branch.stage.run.gate.keep)
        while not tokens and not self._has_ended:
            picks = self._picks.take(self._next_pick, count)
            if self._picks.phase != self._phase:
                self._enter_phase(self._picks.phase)
            if not self._has_ended:
                self._give(picks, values, tokens)
        self.num_in = self.num_out = self.num_out + len(tokens)
        return values, tokens

    def _plan(self, schedule: Schedule) -> None:
        """Take the picks of a schedule from now on."""
        self._spans, self._phase = spans_of(schedule), -1
        # A separate object, also for the counts: CPython 3.11 stores more than 30 attributes of an instance so that
        # each access takes longer, 0.2 us per element here.
        self._picks = MixPicks(self._spans, (self.seed, self.run.epoch, self.run.lane), self.run)

    def _change(self, sample: int, number: int) -> None:
        """Use new weights from the pick of a sample on."""
        self._changed = sample, number
        self._plan(((sample, self.run.weights[number - 1]),))

    def _enter_phase(self, number: int) -> None:
        """Update the inputs that the end of the mix depends on, before the first pick of a phase."""
        self._phase = number
        # Inputs of weight 0 are never read, so the mix does not wait for their ends.
        needed = self._spans[number].needed.tolist()
        self._num_left = len(needed) - len(self._done.intersection(needed))
        # The inputs that this phase lacks may have been the only ones that the mix had to read on for.
        self._has_ended = self._stop != "first" and not self._num_left

    def _give(self, picks: list[int], values: list[Any], tokens: list[Token]) -> None:
        """Add elements by these picks, until an input must be read: its error or end would occur too early."""
        for number, at in enumerate(picks):
            branch = self._branches.get(at)
            if branch is None or not branch.tokens:
                if tokens:
                    # Return the picked elements before an input is read: its error or end belongs to the next pick.
                    return
                branch = self._branch(at)
                if not self._fill(at, branch, picks[number:].count(at)):
                    if self._has_ended:
                        return
                    self._next_pick += 1  # skip the pick of an input without elements in this lane
                    continue
            values.append(branch.values.pop(0))
            tokens.append((at, branch.tokens.pop(0)))
            self._next_pick += 1

    def _fill(self, at: int, branch: _Branch, count: int) -> bool:
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

    def _read(self, at: int, branch: _Branch, count: int) -> bool:
        """Read elements of an input; return False at its end."""
        if not self._inputs.flows(at):
            return branch.fill(count) > 0
        # The entry of the lane, see `mpqueue.dataset.ahead`. The next element of a user's stream may take long to
        # arrive, so such streams are not read ahead.
        most = _MOST_AHEAD // len(self.node.branches)
        is_ahead = self._is_ahead and self._inputs.can_reopen(at)
        while branch.fill_ahead(count, most) if is_ahead else branch.fill(count):
            branch.leave_out(branch.stage.run.gate.keep)
            if branch.tokens:
                return True
        return False

    @staticmethod
    def _lacks_elements(branch: _Branch) -> bool:
        """Return whether an input that starts again at its end has no elements in this lane."""
        assert isinstance(branch.stage, RepeatStage)
        return branch.stage.has_ended and not branch.tokens

    def _note(self, at: int, branch: _Branch) -> None:
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
        """Add the number of the next pick, and the place of the latest new weights."""
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
        names: The names of the inputs; empty if they have none.
        later: The rest of the schedule of an epoch: from which sample on each of these weights holds.
        changes: The changes of the weights while the mix is read, in ascending order.
    """

    name: ClassVar[str] = "mix"
    passes_elements: ClassVar[bool] = True
    draws_order: ClassVar[bool] = True
    is_mix: ClassVar[bool] = True
    is_opened_in_lanes: ClassVar[bool] = True
    reader: ClassVar[Any] = MixReader
    lane_stage: ClassVar[Any] = MixStage
    weights: Weights
    stop: Stop = "first"
    names: tuple[str, ...] = ()
    later: Schedule = ()
    changes: tuple[Change, ...] = ()

    @property
    def varies(self) -> bool:
        """True if the length differs between epochs, and depends on the seed."""
        return bool(self.changes)

    @property
    def schedule(self) -> Schedule:
        """The schedule given at construction."""
        return (0, self.weights), *self.later

    @property
    def part_names(self) -> Sequence[Name]:
        """The names of the inputs, or their numbers if they have none."""
        return self.names or range(len(self.branches))

    def part_name(self, at: int) -> Name:
        """Return the name of an input, or its number."""
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
        """Return the line without the names, which can be added to a mix whose state has been saved."""
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
