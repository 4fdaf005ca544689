"""The stages of a lane that count elements: `take`, `skip`, `enumerate`, `repeat`.

The n-th element of lane l has the index ``n * lanes + l`` in the stream, and these stages use that index. So
``take(100)`` of a stream in 16 lanes takes 6 or 7 elements of each. A lane that ends earlier yields fewer.

Each pass of `repeat` opens its input again, as a separate epoch for the stages before it. The token of an element is
(pass, token). Elements of an earlier pass are computed again by stages that are opened for it. The stages of the
previous pass are kept, because they contain the states of its sources.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mpqueue.dataset.ids import SampleIds
from mpqueue.dataset.indexed import IndexedRun, LinkReader, Places, by_part
from mpqueue.dataset.nodes import LaneOpening, LinkNode, StageNode, inner_epoch
from mpqueue.dataset.picking import PickReader
from mpqueue.dataset.stages import Block, LaneStage, LinkStage, Token, by_part_again, counts_of, found_by_part
from mpqueue.telemetry.stage_rows import StageRow, summed
from mpqueue.worker.lanes import LaneRun


def share_of(count: int, run: LaneRun) -> int:
    """Return a lane's share of the first ``count`` elements of a stream."""
    return max(0, -(-(count - run.lane) // run.num_lanes))


class CountedStage(LinkStage):
    """A stage that counts the elements of its input.

    Args:
        source, node, run: See `LinkStage`.
    """

    def __init__(self, source: LaneStage, node: StageNode, run: LaneRun) -> None:
        super().__init__(source, node, run)
        self._count = 0  # number of elements read

    def _take(self, count: int) -> Block:
        block = self._input.pull(count)
        self._count += len(block[1])
        self.num_in += len(block[1])
        return block

    def get_state(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the number of elements read from the input."""
        states.append({"count": self._count})
        self._input.get_state(states, held)

    def set_state(self, states: Iterator[Any]) -> None:
        """Restore a saved state."""
        self._count = next(states)["count"]
        self._input.set_state(states)


class ShareStage(CountedStage):
    """A stage that uses a lane's share of the first elements.

    Args:
        source, node, run: See `LinkStage`.
    """

    def __init__(self, source: LaneStage, node: "TakeNode | SkipNode", run: LaneRun) -> None:
        super().__init__(source, node, run)
        self._share = share_of(node.count, run)


class TakeStage(ShareStage):
    """A lane's share of the first elements."""

    def pull(self, count: int) -> Block:
        """Return the next elements."""
        left = min(count, self._share - self._count)
        # Do not read past the share: the input would compute elements, or raise errors, that are not needed.
        block = self._take(left) if left > 0 else ([], [])
        self.num_out = self.num_in
        return block


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class TakeNode(LinkNode):
    """The first elements.

    Attributes:
        count: The maximum number of elements.
    """

    name: ClassVar[str] = "take"
    passes_elements: ClassVar[bool] = True
    keeps_places: ClassVar[bool] = True
    reader: ClassVar[Any] = LinkReader
    lane_stage: ClassVar[Any] = TakeStage
    count: int

    def length_by(self, lengths: Sequence[int | None]) -> int | None:
        """Return the length of the input, at most ``count``."""
        (length,) = lengths
        return self.count if length is None else min(length, self.count)


class SkipReader(PickReader):
    """All elements except the first ones."""

    node: "SkipNode"

    def before(self, places: Places, run: IndexedRun) -> Places:  # noqa: ARG002 - the same in each epoch
        """Return the indices in the input, which are after the skipped ones."""
        count = self.node.count
        if type(places) is range:  # from a lane: the order of regular indices is computed by the block
            return range(places.start + count, places.stop + count, places.step)
        return [place + count for place in places]


class SkipStage(ShareStage):
    """The elements after a lane's share of the first ones."""

    def pull(self, count: int) -> Block:
        """Return the next elements; the first call reads and drops the skipped ones."""
        while self._count < self._share:
            # In blocks, so that the skipped elements are not in memory all at once.
            if not self._take(min(256, self._share - self._count))[1]:
                return [], []
        block = self._take(count)
        self.num_out += len(block[1])
        return block


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SkipNode(LinkNode):
    """All elements except the first ones.

    Attributes:
        count: The number of elements to skip.
    """

    name: ClassVar[str] = "skip"
    passes_elements: ClassVar[bool] = True
    keeps_prefix: ClassVar[bool] = True
    reader: ClassVar[Any] = SkipReader
    lane_stage: ClassVar[Any] = SkipStage
    count: int

    def length_by(self, lengths: Sequence[int | None]) -> int | None:
        """Return the number of remaining elements."""
        (length,) = lengths
        return None if length is None else max(0, length - self.count)

    def num_read(self, place: int, at: int, lengths: Sequence[int | None]) -> int:  # noqa: ARG002 - see `StageNode`
        """Return the number of elements of the input before an index, with the skipped ones."""
        return place + self.count


class EnumerateReader(LinkReader):
    """Pairs of an index and the element."""

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return pairs."""
        return list(zip(places, self.input.at(places, run), strict=True))


class EnumerateStage(CountedStage):
    """Pairs of an element's index and the element."""

    def pull(self, count: int) -> Block:
        """Return the next pairs; their tokens are (index, token)."""
        step = self.run.num_lanes
        first = self._count * step + self.run.lane
        values, tokens = self._take(count)
        self.num_out = self.num_in
        places = range(first, first + len(tokens) * step, step)
        return list(zip(places, values, strict=True)), list(zip(places, tokens, strict=True))

    def get_state(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the number of elements read from the input."""
        super().get_state(states, [token for _, token in held])

    def again(self, tokens: Sequence[Token]) -> list[Any]:
        """Return these pairs, computed again."""
        values = self._input.again([token for _, token in tokens])
        return [(place, value) for (place, _), value in zip(tokens, values, strict=True)]

    def sample_ids(self, tokens: Sequence[Token]) -> list[SampleIds]:
        """Return the ids of the elements in these pairs."""
        return self._input.sample_ids([token for _, token in tokens])


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class EnumerateNode(LinkNode):
    """Pairs of an index, from 0, and the element."""

    name: ClassVar[str] = "enumerate"
    keeps_places: ClassVar[bool] = True
    reader: ClassVar[Any] = EnumerateReader
    lane_stage: ClassVar[Any] = EnumerateStage

    def order_line(self) -> None:
        """Return None: the stage does not affect the order."""


class RepeatReader(LinkReader):
    """Repeated passes over the input."""

    node: "RepeatNode"

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return the elements at these indices of all passes."""
        return self._by_pass(places, run, self.input.at)

    def _by_pass(
        self, places: Places, run: IndexedRun, read: Callable[[Places, IndexedRun], list[Any]]
    ) -> list[Any]:  # fmt: skip
        length = self.input.length
        if length is None:
            return read(places, run)
        return by_part(
            places, lambda place: divmod(place, length), lambda number, inner: read(inner, self._inner(number, run))
        )

    def _inner(self, number: int, run: IndexedRun) -> IndexedRun:
        return run._replace(epoch=inner_epoch(run.epoch, number, self.node.times))

    def origin(self, place: int, run: IndexedRun) -> str:
        """Return a description of a sample."""
        if not self.input.length:
            return self.input.origin(place, run)
        number, place = divmod(place, self.input.length)
        return self.input.origin(place, self._inner(number, run))

    def sample_ids(self, places: Places, run: IndexedRun) -> list[SampleIds]:
        """Return the ids at these indices of all passes."""
        return self._by_pass(places, run, self.input.sample_ids)


class RepeatStage(LaneStage):
    """Repeated passes over its input.

    Args:
        open_pass: A function that opens the input for the pass with a number.
        node, run: See `LaneStage`. With an unlimited number of passes, a pass without elements in the lane is the last.
        is_hidden: Whether it belongs to another stage, such as a mix, and has no row of counts.

    Attributes:
        num_passes: The number of completed passes.
        has_ended: Whether the last element has been returned.
    """

    def __init__(
        self, open_pass: Callable[[int], LaneStage], node: "RepeatNode", run: LaneRun, *, is_hidden: bool = False
    ) -> None:
        super().__init__(node, run)
        self._open, self._times, self._is_hidden = open_pass, node.times, is_hidden
        self.num_passes = 0
        self.has_ended = node.times == 0
        self._has_given = False  # in this pass
        self._now: LaneStage | None = None  # the input; opened on first use
        self._before: LaneStage | None = None  # the input of the previous pass
        self._counts: list[StageRow] = []  # of all earlier passes

    def _input(self) -> LaneStage:
        if self._now is None:
            self._now = self._open(self._pass())
        return self._now

    def pull(self, count: int) -> Block:
        """Return the next elements; their tokens are (pass, token)."""
        while not self.has_ended:
            values, tokens = self._input().pull(count)
            if tokens:
                self._has_given = True
                self.num_in = self.num_out = self.num_out + len(tokens)
                number = self.num_passes
                return values, [(number, token) for token in tokens]
            self.next_pass()
        return [], []

    def next_pass(self) -> None:
        """Start the next pass, if there is one."""
        self.num_passes += 1
        is_last = self.num_passes == self._times or (self._times is None and not self._has_given)
        if is_last:
            self.has_ended = True
            return
        self._counts = self._counts_of_passes()
        # Kept for one more pass: later stages hold elements of it, and it contains the states of their sources.
        self._before, self._has_given = self._now, False
        self._now = None

    def _counts_of_passes(self) -> list[StageRow]:
        """Return a row for each earlier stage, summed over all passes."""
        return self._counts if self._now is None else summed(self._counts, counts_of(self._now))

    def _pass(self) -> int:
        """Return the number of the current pass."""
        return max(0, self.num_passes - self.has_ended)

    def get_state(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the pass, the state of its input, and the state of the previous pass's input if its elements are held."""
        of_pass: dict[int, list[Token]] = {}
        for number, token in held:
            of_pass.setdefault(number, []).append(token)
        now = self._pass()
        # No later stage holds an element of the previous pass. Release its stages, which may hold files and buffers.
        if now - 1 not in of_pass:
            self._before = None
        states.append({
            "pass": self.num_passes, "ended": self.has_ended, "given": self._has_given,
            "begun": self._now is not None, "before": self._before is not None,
        })  # fmt: skip
        if self._now is not None:
            self._now.get_state(states, of_pass.get(now, ()))
        if self._before is not None:
            self._before.get_state(states, of_pass[now - 1])

    def set_state(self, states: Iterator[Any]) -> None:
        """Restore a saved state."""
        state = next(states)
        self.num_passes, self.has_ended, self._has_given = state["pass"], state["ended"], state["given"]
        if state["begun"]:
            self._input().set_state(states)
        if state["before"]:
            self._before = self._open(self._pass() - 1)
            self._before.set_state(states)

    def again(self, tokens: Sequence[Token]) -> list[Any]:
        """Return these elements, each computed by the stages of its pass."""
        return by_part_again(tokens, self._stages_of)

    def sample_ids(self, tokens: Sequence[Token]) -> list[SampleIds]:
        """Return the ids of these elements, each from the stages of its pass."""
        return found_by_part(tokens, lambda number, inner: self._stages_of(number).sample_ids(inner))

    def _stages_of(self, number: int) -> LaneStage:
        if number == self._pass():
            return self._input()
        if number == self._pass() - 1 and self._before is not None:
            return self._before
        return self._open(number)

    def count_to(self, rows: list[StageRow]) -> None:
        """Add a row for each stage, summed over all passes."""
        rows += self._counts_of_passes()
        if not self._is_hidden:
            super().count_to(rows)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class RepeatNode(LinkNode):
    """Repeated passes over the elements.

    Attributes:
        times: The number of passes; None for an endless dataset.
    """

    name: ClassVar[str] = "repeat"
    passes_elements: ClassVar[bool] = True
    reader: ClassVar[Any] = RepeatReader
    times: int | None = None

    @property
    def keeps_order(self) -> bool:
        """False: each pass is a separate epoch."""
        return False

    def length_by(self, lengths: Sequence[int | None]) -> int | None:
        """Return the length of all passes; an empty input remains empty."""
        (length,) = lengths
        if not length:
            return length
        return None if self.times is None else length * self.times

    def open(self, opening: LaneOpening, run: LaneRun, *, is_last: bool = False) -> LaneStage:  # noqa: ARG002
        """Open this stage in a lane; its input is opened for each pass."""
        return self.opened(opening, run)

    def opened(self, opening: LaneOpening, run: LaneRun, *, is_hidden: bool = False) -> RepeatStage:
        """Return the open stage; ``is_hidden``: it is part of another stage, and has no row of statistics."""

        def open_pass(number: int) -> LaneStage:
            stage: LaneStage = opening.input(self, run._replace(epoch=inner_epoch(run.epoch, number, self.times)))
            return stage

        return RepeatStage(open_pass, self, run, is_hidden=is_hidden)
