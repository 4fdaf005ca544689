"""The roots of a lane: indices of an indexed dataset, or a source that is a stream.

Lane l of L has the indices l, l + L, l + 2 L ... of an indexed dataset. They are requested in blocks. If an element
raises, its block is requested again index by index, which is rare and has no cost otherwise.

A source that is a stream is read element by element. Its elements are computed again by reading it again, from the
beginning or from a state. A source with states has ``state_dict()`` and ``load_state_dict()``, torch's convention,
itself or on its iterator. A root records states together with the index of the next element. It does so often enough
that each held element is near one, and rarely enough to cost at most 1 % of the reading time. A snapshot contains the
states needed to read the held elements, and the newest one.
"""

import copy
import reprlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import compress
from typing import Any, ClassVar

from mpqueue.dataset.description.ids import SampleId, SampleIds
from mpqueue.dataset.description.nodes import LaneOpening, StageNode, Traits, lengths_of, num_samples, shown
from mpqueue.dataset.indexed.readers import IndexedRun, NothingLeft, ReaderMaker
from mpqueue.dataset.lanes.gates import is_excluded
from mpqueue.dataset.lanes.stage_work import LEAST_FRUITLESS
from mpqueue.dataset.lanes.stages import Block, LaneStage, Token
from mpqueue.engine.skips import Skipped
from mpqueue.errors import OutOfRangeError
from mpqueue.system.log import warn
from mpqueue.system.signals.exceptions import add_note, cause_of
from mpqueue.telemetry.clock import clock_ns
from mpqueue.worker.concurrency.async_sources import plain_iterable
from mpqueue.worker.failures import never_an_end, passes_at_once, skips_sample
from mpqueue.worker.retry_markers import RetryBegin
from mpqueue.worker.runners.generator_lanes import continues_at_state
from mpqueue.worker.runners.lanes import LaneRun

_KEEP_EVERY, _KEEP_SHARE, _MOST_KEPT = 64, 100, 256
_LONG_NS = 10_000_000_000
# Of elements with samples that raised, only the latest are remembered: an endless stream would add them forever. For an
# earlier one that a buffer still holds, `last` would name the samples that raised, too.
_MOST_RAISED = 1 << 16


def most_fruitless_of(node: StageNode) -> int:
    """Return the `LaneStage.most_fruitless` of an endless indexed part."""
    # After twice as many indices, each sample of its sources has been read about once.
    return max(LEAST_FRUITLESS, 2 * num_samples(node))


class IndexedRoot(LaneStage):
    """A lane's indices of an indexed dataset.

    Args:
        node, run: See `LaneStage`.
        maker: The maker of the readers for all lanes of a worker; None for separate readers.
    """

    def __init__(self, node: StageNode, run: LaneRun, maker: ReaderMaker | None = None) -> None:
        super().__init__(node, run)
        maker = maker or ReaderMaker(lengths_of(node))
        reader = maker.make(node)
        self._reader, self._length = reader, reader.length
        self._read = read = IndexedRun(
            run.seed, run.epoch, run.begin, run.base, run.zero, fixed=run.fixed, keep=run.keep
        )
        self._at, self._ids = partial(reader.at, run=read), partial(reader.sample_ids, run=read)
        # An element that is made of several samples remains without the samples that raise.
        self._skips_inside = run.skip is not None and node.facts.merged is not None
        self._raised = {} if run.raised is None else run.raised
        self._most_fruitless = most_fruitless_of(node) if self._length is None else None
        self._position = run.lane
        self._error: BaseException | None = None  # raised by the element at `_position`

    def pull(self, count: int) -> Block:
        """Return the elements at the next indices; their tokens are the indices."""
        step = self.run.num_lanes
        values: list[Any] = []
        tokens: Sequence[Token] = ()
        while not values:
            if self._error is not None:
                error, self._error = self._error, None
                # Advance only now: from a snapshot taken before, the element is computed, and its error raised, again.
                is_dropped = is_excluded(self.run.gate, self, self._position)
                self._position += step
                if is_dropped:
                    continue
                raise error
            end = self._position + count * step
            positions = range(self._position, end if self._length is None else min(end, self._length), step)
            if not positions:
                break
            started = self.clock.start()
            following = positions[-1] + step
            kept = positions if self.run.keep is None else self._not_empty(positions)
            if kept and self.run.gate.keep is not None:
                kept = list(compress(kept, self.run.gate.keep(self.sample_ids(kept))))
            if kept:
                values, tokens = self._compute(kept, following)
            else:
                self._position = following
            self.clock.stop(started)
            if not values and self._error is None:  # all were skipped or excluded
                self.search.note(self, len(positions))
        self.search.end()
        self.num_out += len(values)
        return values, tokens

    def most_fruitless(self) -> int | None:
        """Return twice the number of samples of all sources."""
        return self._most_fruitless

    def _compute(self, positions: Sequence[int], following: int) -> Block:
        try:
            if self.run.is_single:
                # One of these elements crashed a worker. Each is computed alone, so that its retry marker identifies
                # it.
                return self._each(positions, following)
            values = self._at(positions)
        except BaseException as error:
            if passes_at_once(error):
                raise
            # It is unknown which element raised. The same indices return the same elements, so compute them one by one.
            return self._each(positions, following)
        self._position = following
        return values, positions

    def _each(self, positions: Sequence[int], following: int) -> Block:
        """Return the elements before the one that raises, which remains the next one until its error is raised."""
        values, tokens = [], []
        for position in positions:
            self._position = position
            try:
                element = self._tried(position)
                values += element
                tokens += [position] * len(element)
            except BaseException as error:
                if passes_at_once(error):
                    raise
                # The readers have added a note about stage and sample.
                add_note(error, f"which has index {position} in lane {self.run.lane} of {self.run.num_lanes}")
                if not self.calls.skips(error, position):
                    self._error = never_an_end(error)
                    return values, tokens
        self._position = following
        return values, tokens

    def _tried(self, position: int) -> list[Any]:
        """Return an element in a list, or an empty list if each of its samples raises and is skipped."""
        try:
            return self._at([position])
        except BaseException as error:
            if not self._skips_inside or not skips_sample(error):
                raise
        assert self.run.skip is not None
        try:
            return self._rest(position, self.run.skip)
        except NothingLeft:
            return []

    def _rest(self, position: int, skip: Callable[[Skipped], object]) -> list[Any]:
        """Return an element without the samples that raise, in a list."""
        ids: list[SampleId] = []
        self._raised[self.run.epoch, self.stage_index, position] = ids
        if len(self._raised) > _MOST_RAISED:
            del self._raised[next(iter(self._raised))]

        def skip_inside(skipped: Skipped) -> None:
            ids.extend(skipped.ids)
            skip(skipped)

        return self._reader.at([position], self._read._replace(skip=skip_inside))

    def _not_empty(self, positions: Sequence[int]) -> Sequence[int]:
        """Return the indices of elements that have samples which are not excluded."""
        return [position for position, ids in zip(positions, self._ids(positions), strict=True) if ids]

    def get_state(self, states: list[Any], held: Sequence[Token]) -> None:  # any index can be computed again
        """Add the next index."""
        states.append({"place": self._position})

    def set_state(self, states: Iterator[Any]) -> None:
        """Restore a saved state."""
        self._position = next(states)["place"]

    def again(self, tokens: Sequence[Token]) -> list[Any]:
        """Return the elements at these indices."""
        try:
            return self._at(list(tokens)) if tokens else []
        except BaseException as error:
            if not self._skips_inside or not skips_sample(error):
                raise
        # The samples were reported when the elements were first computed.
        return [value for token in tokens for value in self._rest(token, lambda _: None)]

    def sample_ids(self, tokens: Sequence[Token]) -> list[SampleIds]:
        """Return the ids of the samples at these indices."""
        return self._without_raised(tokens, self._ids(tokens)) if tokens else []

    def _without_raised(self, tokens: Sequence[Token], found: list[SampleIds]) -> list[SampleIds]:
        if not self._raised:
            return found
        raised = [self._raised.get((self.run.epoch, self.stage_index, token), ()) for token in tokens]
        return [[each for each in ids if each not in out] for ids, out in zip(found, raised, strict=True)]

    def num_by_input(self, tokens: Sequence[Token]) -> Mapping[int, int] | None:
        """Return the numbers at these indices."""
        return None if self._raised else self._reader.num_by_input(tokens, self._read)


class _Reader:
    """Reads a source from its beginning, or from a state of the source.

    Args:
        source: A callable that returns an iterable, or an iterable.
        begin: A function that is called with the index of an element before it is read, and with None before the
            source is opened.
        index: The index of the next element.
        state: The state of the source before that element; None for the beginning.

    Attributes:
        index: The index of the next element, which is 0 if the source does not continue at the state.
    """

    def __init__(self, source: Any, begin: Callable[[int | None], None], index: int, state: Any) -> None:
        self.index = index
        self._source, self._begin = source, begin
        opened = self._open(state)
        # An iterator loads a state itself. An iterable that begins something else instead is read from its beginning.
        if state is not None and self._keeper is opened and self._iterator is not opened:
            if not continues_at_state(self._opened_at):
                self.index, state = 0, None
            self._open(state)  # again: a function may return one object each time
        self.is_stateful = _is_stateful(self._keeper)

    def _opened_at(self, state: Any) -> tuple[Iterator[Any], Callable[[], Any]]:
        self._open(state)
        return self._iterator, self._keeper.state_dict

    def _open(self, state: Any) -> Any:
        """Open the source at a state. Return the opened source."""
        source = self._source
        self._begin(None)
        # A source that holds its state itself is copied, because several lanes of a worker read it in turn.
        opened = source() if callable(source) else copy.deepcopy(source) if _is_stateful(source) else source
        if state is not None and _is_stateful(opened):
            opened.load_state_dict(copy.deepcopy(state))
        opened = plain_iterable(opened)
        if not hasattr(type(opened), "__iter__") and not hasattr(type(opened), "__getitem__"):
            raise TypeError(
                f"a generator function must return an iterator, but {shown(source)} returned {type(opened).__name__}: "
                f"{reprlib.repr(opened)}. Did you mean `yield` instead of `return`?"
            )
        self._iterator: Any = iter(opened)
        self._keeper: Any = opened if _is_stateful(opened) else self._iterator
        if state is not None and self._keeper is self._iterator and self._iterator is not opened:
            self._keeper.load_state_dict(copy.deepcopy(state))
        return opened

    def next(self) -> Any:
        """Return the next element.

        Raises:
            StopIteration: All elements have been returned.
            Exception: The source raised; the next call returns the following element.
        """
        self._begin(self.index)
        self.index += 1
        try:
            return next(self._iterator)
        except (StopIteration, OutOfRangeError):
            self.index -= 1
            raise StopIteration from None

    def state(self) -> Any:
        """Return a copy of the source's state, which later reads do not change."""
        return copy.deepcopy(self._keeper.state_dict())


def _is_stateful(source: Any) -> bool:
    return hasattr(source, "state_dict") and hasattr(source, "load_state_dict")


class StreamRoot(LaneStage):
    """The elements of a source that is a stream; the source selects its share by `mpqueue.worker_info`.

    Args:
        node, run: See `LaneStage`.
    """

    node: "StreamNode"

    def __init__(self, node: "StreamNode", run: LaneRun) -> None:
        super().__init__(node, run)
        self._index = 0  # index of the next element of this lane
        self._has_ended = False
        self._error: BaseException | None = None  # raised by that element
        self._reader: _Reader | None = None
        self._indices: list[int] = []  # ascending indices of the elements before which states were recorded
        self._states: list[Any] = []  # the recorded states
        self._keep_ns = 1 << 62  # time to record a state
        self._kept_at_ns = 0

    def pull(self, count: int) -> Block:
        """Return the next elements; their tokens are their indices in the stream of all lanes."""
        values: list[Any] = []
        tokens: list[Token] = []
        while not values and not self._has_ended:
            if self._error is not None:
                error, self._error = self._error, None
                is_dropped = is_excluded(self.run.gate, self, self._token_of(self._index))
                self._index += 1
                if is_dropped:
                    continue
                raise error
            started = self.clock.start()
            first = self._index
            self._read(self._opened(), count, values)
            self.clock.stop(started)
            # After an error, the source is one element ahead of the index that its state would be recorded with.
            if self._error is None and self.clock.ns >= self._kept_at_ns:
                self._keep_state()
            # An excluded element is read, because the following ones depend on it.
            tokens = [self._token_of(first + at) for at in range(len(values))]
            if self.run.keep is not None and values:
                keeps = self.run.keep(self.sample_ids(tokens))
                values, tokens = list(compress(values, keeps)), list(compress(tokens, keeps))
        self.num_out += len(values)
        return values, tokens if values else []

    def _opened(self) -> "_Reader":
        """Return the reader at the next element. Opening is retried after an error, which belongs to no element."""
        try:
            return self._reader_at(self._index)
        except BaseException as error:
            if passes_at_once(error):
                raise
            self.calls.note(error, self._token_of(self._index))
            raise never_an_end(error) from cause_of(error)

    def _read(self, reader: "_Reader", count: int, values: list[Any]) -> None:
        read, add = reader.next, values.append
        try:
            for _ in range(count):
                add(read())
        except StopIteration:
            self._has_ended = True
        except BaseException as error:
            if passes_at_once(error):
                raise
            # Return the elements before the error. The next call raises it at its own index.
            self._index += len(values)
            if self.calls.handles(error, self._token_of(self._index)):
                self._index += 1
            else:
                self._error = never_an_end(error)
            return
        self._index += len(values)

    def _token_of(self, index: int) -> Token:
        return index * self.run.num_lanes + self.run.lane

    def _reader_at(self, index: int) -> _Reader:
        """Return the reader, positioned at an element."""
        at = bisect_right(self._indices, index) - 1
        first = self._indices[at] if at >= 0 else 0
        reader = self._reader
        if reader is None or not first <= reader.index <= index:
            # The reader has passed the element, or a recorded state is nearer to it.
            reader = self._reader = None  # close it first, because it may hold a file
            reader = self._reader = _Reader(self.node.source, self._begin, first, self._states[at] if at >= 0 else None)
        if reader.index < index:
            self._drop(reader, index)
        return reader

    def _drop(self, reader: _Reader, index: int) -> None:
        """Read and drop the elements that were returned before."""
        first, long_at = reader.index, clock_ns() + _LONG_NS
        while reader.index < index:
            try:
                reader.next()
            except StopIteration:
                return
            except BaseException as error:
                if passes_at_once(error):
                    raise  # other errors were raised when the element was first read
            if clock_ns() > long_at:
                warn(
                    f"{self.line} is read again from its element {first} to {index}, which has taken 10 s so far. Add "
                    "state_dict() and load_state_dict() to the iterator that the source returns, so that it is read "
                    "from its last state"
                )
                long_at += 1 << 62

    def _begin(self, index: int | None) -> None:
        run, begin = self.run, self.run.begin
        if type(begin) is RetryBegin:
            begin = begin.begin_whole  # a generator cannot skip an element, which is needed to compute the next
        begin(self.seed, run.epoch, run.lane if index is None else self._token_of(index))

    def _keep_state(self) -> None:
        """Record the state of the source if it is due, in at most 1 % of the time."""
        reader = self._reader
        if reader is None or not reader.is_stateful:
            self._kept_at_ns = 1 << 62
            return
        if self._index - (self._indices[-1] if self._indices else 0) >= _KEEP_EVERY:
            started = clock_ns()
            self._enter(self._index, reader.state())
            self._keep_ns = min(self._keep_ns, clock_ns() - started)  # the minimum, without interference
            self._kept_at_ns = self.clock.ns + _KEEP_SHARE * self._keep_ns
            if len(self._indices) > _MOST_KEPT:  # no snapshots are taken: keep every other state
                del self._indices[:-1:2], self._states[:-1:2]

    def _enter(self, index: int, state: Any) -> None:
        if self._indices and self._indices[-1] == index:
            self._states[-1] = state
        else:
            self._indices.append(index)
            self._states.append(state)

    def get_state(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the index of the next element, and the states to read it and the held elements from."""
        reader = self._reader
        if reader is not None and reader.is_stateful and reader.index == self._index:
            self._enter(self._index, reader.state())
        indices = [self._index, *(token // self.run.num_lanes for token in held)]
        needed = sorted({bisect_right(self._indices, index) - 1 for index in indices} - {-1})
        self._indices, self._states = [self._indices[at] for at in needed], [self._states[at] for at in needed]
        known = [list(pair) for pair in zip(self._indices, self._states, strict=True)]
        states.append({"number": self._index, "ended": self._has_ended, "states": known})

    def set_state(self, states: Iterator[Any]) -> None:
        """Restore a saved state; the next element is read on demand."""
        state = next(states)
        self._index, self._has_ended = state["number"], state["ended"]
        self._indices = [index for index, _ in state["states"]]
        self._states = [kept for _, kept in state["states"]]

    def again(self, tokens: Sequence[Token]) -> list[Any]:
        """Read these elements again, each from the newest state before it."""
        elements = {}
        # Keep the reader: moving it back for these elements would mean reading up to its position again.
        before, self._reader = self._reader, None
        # In ascending order, so that one pass reads all of them.
        for token in sorted(set(tokens)):
            try:
                elements[token] = self._reader_at(token // self.run.num_lanes).next()
            except StopIteration:
                raise RuntimeError(
                    f"{self.line} ended before element {token // self.run.num_lanes} of lane {self.run.lane}, "
                    "which it has returned before: it must return the same elements each time"
                ) from None
        if before is not None:
            self._reader = before
        return [elements[token] for token in tokens]

    def sample_ids(self, tokens: Sequence[Token]) -> list[SampleIds]:
        """Return the lane and the index of each element in the lane."""
        step = self.run.num_lanes
        return [[(token % step, token // step)] for token in tokens]


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class StreamNode(StageNode):
    """Samples of a generator function or an iterable-style dataset.

    Attributes:
        source: A callable without arguments that returns an iterator, or an object with ``__iter__``.
    """

    name: ClassVar[str] = "stream"
    traits: ClassVar[Traits] = Traits(flows=True, makes_stream=True, reads_stream=True)
    source: Any

    def line(self) -> str:
        """Return the name of the function, or the type of the dataset."""
        return shown(self.source) + ("()" if callable(self.source) else "")

    def open(self, opening: LaneOpening, run: LaneRun, *, is_last: bool = False) -> "StreamRoot":
        """Open the source in a lane."""
        return StreamRoot(self, run)
