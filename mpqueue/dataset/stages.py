"""A stage of a lane: it hands on blocks of elements with their tokens, and snapshots of where it is.

A lane of a stream is a chain of stages, or a tree. The last one is asked for elements, and asks those before it. They
come in blocks, because a frame of Python for each sample and stage would cost more than the samples do.

    pull     gives some of the next elements, each with its *token*
    save     tells where the stage is, and those before it: positions, and tokens of what it holds; never contents
    load     goes back there, in a new object: what was held is computed again by its tokens
    rebuild  computes elements again by their tokens, and changes nothing

A snapshot is a list with an item for each stage, the last one first, because formats such as JSON refuse data that is
nested as deep as a pipeline may be long. A stage adds its own item, and then has its inputs add theirs (`save_to`);
it takes its own item, and then has its inputs take theirs (`load_from`).

A token is the identity of an element in its lane: an int, or a tuple of tokens. That of a root is the place of the
sample in the whole dataset; `map`, `filter` and `shuffle` hand tokens on, other stages make tuples of them. The random
numbers of a sample in a stage follow from its token, by `mpqueue.seeding.seeds.place_of`: so they are the same when it
is computed again, whatever came between.

What a stage holds needs what is before it, for as long as it may be computed again: `save` is told the tokens that
the stages behind hold, and tells its input those and its own. A root that cannot compute a sample by its place keeps
what it needs for these only.

*Errors.* What a function of the user's raises for the k-th element of a block is raised by the next `pull`; the k - 1
before it are handed on first, and those behind it are kept (`Applied`). So an error takes the place of one element
wherever blocks begin, and no other is lost. Where errors are to be skipped (``run.skip``) the element is left out, and
a stage sees the same elements as it does where they are raised: numbers count what was given, not what was raised.
An exception of a signal's handler passes at once; the lane is then to be thrown away, and opened from its snapshot.

*Cost.* Before a batch of 256 a sample pays some 0.07 us for `map` and 0.09 for `filter`, the call of a function that
does nothing included, and 0.17 for `shuffle(buffer=1000)`, in 16 lanes of ints (CPU time of one process, by turns with
the same stream without that stage, minima of 45 s, on a busy machine). A block costs some 2 us for each stage, so
elements that are asked for one by one cost that much.
"""

import contextlib
import reprlib
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import compress
from typing import Any, TypeAlias

import numpy as np

from mpqueue.dataset import nodes
from mpqueue.dataset.applying import apply_to, map_to
from mpqueue.dataset.held import together
from mpqueue.engine.skips import Skipped, is_of_source
from mpqueue.samples.leaves import no_sample
from mpqueue.seeding.seeds import place_of
from mpqueue.system.log import warn
from mpqueue.telemetry.stage_rows import StageRow
from mpqueue.worker.failures import never_an_end, passes_at_once
from mpqueue.worker.lanes import LaneRun
from mpqueue.worker.retry_markers import RetryBegin

Token: TypeAlias = Any  # int | tuple[Token, ...]
Block: TypeAlias = tuple[list[Any], Sequence[Token]]

_BETWEEN_LOOKS_NS = 10_000_000  # of a stage's own time: at 2 ms the looks took 5 % of lanes of ints
# A stage that gives nothing for so long tells; one that reads a source without end, whose elements come again, gives
# up after so many. A filter that keeps one of 10,000 by chance is stopped once in 10**8 of its elements by that.
_LONG_NS, LEAST_FRUITLESS = 10_000_000_000, 200_000
VERDICTS = {bool, np.bool_}
_clock = time.perf_counter_ns
_busy = time.thread_time_ns


def token_of(saved: Any) -> Token:
    """Return a token that was saved, and has become lists on its way (as JSON does it)."""
    return saved if type(saved) is int else tuple([token_of(item) for item in saved])


def tokens_of(saved: Sequence[Any]) -> list[Token]:
    """Return tokens that were saved."""
    return list(saved) if set(map(type, saved)) <= {int} else [token_of(item) for item in saved]


class LaneStage:
    """A stage of a lane that is open.

    Args:
        node: What the stage is.
        run: What the lane was opened with.
        inputs: The stages that it reads.

    Attributes:
        number: Of the stage in its tree, from the sources upwards.
        line: The stage in one line, for errors and statistics.
        seed: Of its own random numbers.
        num_in: Elements that it has taken since it was opened,
        num_out: and that it has given. What is computed again from a snapshot's tokens is not among them.
        ns: Nanoseconds of its own work,
        waiting_ns: of them, when it waited for anything but a CPU. Both are noted for each block.
    """

    node: Any

    def __init__(self, node: nodes.StageNode, run: LaneRun, *inputs: "LaneStage") -> None:
        self.node, self.run, self.inputs = node, run, inputs
        self.number, self.line = run.base + node.number, node.line()
        self.seed = nodes.salted(run.seed, self.number)
        self.num_in = self.num_out = self.ns = self.waiting_ns = 0
        self._looks_at, self._looked_at, self._busy_at = 0, 0, -1
        self._num_fruitless = self._fruitless_since = 0

    def opened(self) -> Token | None:
        """Return the token of the element whose items this stage is giving; None: it gives no items of elements."""
        return None

    def take_latest(self, number: int) -> list[Any]:  # noqa: ARG002 - of stages that give items
        """Return the item with this number of the element that is opened, in a list; empty: it is to be made again."""
        return []

    def most_fruitless(self) -> int | None:
        """Return how many elements without end may give nothing in a row; None: they have an end, or it is unknown."""
        bounds = []
        for stage in self.inputs:
            most = stage.most_fruitless_behind()
            if most is not None:
                bounds.append(most)
        return sum(bounds) if bounds else None

    def most_fruitless_behind(self) -> int | None:
        """Return the same of the elements that it gives, for the stage behind it."""
        return self.most_fruitless()

    def pull(self, count: int) -> Block:
        """Return the next elements and their tokens: from 1 to ``count`` of them; none at the end, each time.

        The list of elements is the caller's from then on; the tokens may be a range, or an `array`. A stage takes no
        more from its input than it needs for them.

        Raises:
            Exception: What a function of the user's raised for the next element.
        """
        raise NotImplementedError

    def save(self, held: Sequence[Token] = ()) -> list[Any]:
        """Return where this stage is and those before it: plain data, once it was pickled.

        Args:
            held: Tokens of its own elements that are to be rebuilt when this is loaded; they are only read.
        """
        states: list[Any] = []
        self.save_to(states, held)
        return states

    def load(self, states: Sequence[Any]) -> None:
        """Go to where `save` was called; this object has given nothing yet.

        Raises:
            Exception: What the user's functions raise when elements are computed again.
        """
        self.load_from(iter(states))

    def save_to(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add where this stage is, and then where its inputs are.

        Args:
            states: The snapshot.
            held: See `save`.
        """
        raise NotImplementedError

    def load_from(self, states: Iterator[Any]) -> None:
        """Take what `save_to` has added, and go there.

        Raises:
            Exception: What the user's functions raise when elements are computed again.
        """
        raise NotImplementedError

    def rebuild(self, tokens: Sequence[Token]) -> list[Any]:
        """Return the elements of these tokens, which this stage has given before; its position stays.

        Raises:
            Exception: What the user's functions raise.
        """
        raise NotImplementedError

    @property
    def row_name(self) -> str:
        """The name of its row of counts: a line alone may be that of two stages."""
        return f"{self.number}: {self.line}"

    def counts(self) -> list[StageRow]:
        """Return a row for each stage that was opened, those before it first."""
        rows: list[StageRow] = []
        self.count_to(rows)
        return rows

    def count_to(self, rows: list[StageRow]) -> None:
        """Add the rows of the inputs, and then those of this stage."""
        for stage in self.inputs:
            stage.count_to(rows)
        rows.append((self.row_name, self.num_in, self.num_out, self.ns, self.waiting_ns))

    def begin(self, token: Token) -> None:
        """Set the random numbers to those of an element in this stage."""
        self.run.begin(self.seed, self.run.epoch, place_of(token))

    def mark(self, token: Token) -> None:
        """Begin an element, where that is done only so that it is known whose doing a death would be."""
        if self.is_single:
            self.begin(token)

    @property
    def is_single(self) -> bool:
        """True if samples are to be begun one by one, see `mpqueue.worker.retry_markers`."""
        begin = self.run.begin
        return type(begin) is RetryBegin and begin.is_single

    @property
    def may_run_ahead(self) -> bool:
        """False while an element is marked: what is computed beside it may be what kills, and is no part of it."""
        begin = self.run.begin
        return type(begin) is not RetryBegin or begin.runs_ahead

    def leaves_out(self, error: BaseException, *tokens: Token) -> bool:
        """Note what the user's code raised for elements: True if they are left out, False if it is to be raised."""
        # Also of one that is raised: it tells the trainer of which sample it is.
        error.add_note(self.told(*tokens))
        skip = self.run.skip
        # Only what the source raised for a sample: a lack of memory, say, would be told of all behind it, too.
        if skip is None or not isinstance(error, Exception) or not is_of_source(error):
            return False
        skip(Skipped.because_of(error, *tokens))
        return True

    def told(self, *tokens: Token) -> str:
        """Return the note of an error: stage, sample and lane."""
        # Eight of them at most: a row of packed text may have hundreds.
        which = f"sample {tokens[0]!r}" if len(tokens) == 1 else f"samples {', '.join(map(repr, tokens[:8]))}"
        more = ", ..." if len(tokens) > 8 else ""
        lane = f"lane {self.run.lane} of {self.run.num_lanes}"
        return f"raised by stage {self.number}, {self.line}, for {which}{more} of epoch {self.run.epoch} in {lane}"

    def refuse_none(self, token: Token) -> TypeError:
        """Return the error of an element that is None, where a batch is to be made of it."""
        before = self.node.input
        hint = "did `__getitem__` forget to return?" if before.is_indexed else "did its function forget to return?"
        return no_sample(f"element {token!r} of stage {self.number - 1}, {before.line()},", hint)

    def _made(self, tokens: Sequence[Token], make: Callable[[], Any]) -> list[Any]:
        """Return what is made of several elements, alone in a list; an empty list: they are left out.

        Raises:
            BaseException: What was raised as it was made, where errors are not skipped.
        """
        started = self._clock_in()
        try:
            self.mark(tokens[0])
            return [make()]
        except BaseException as error:
            if passes_at_once(error):
                raise
            if not self.leaves_out(error, *tokens):
                raise never_an_end(error) from error.__cause__
            return []
        finally:
            self._clock_out(started)

    def _note_fruitless(self, count: int) -> None:
        """So many elements were taken, and none was given: `_num_fruitless` is to be 0 when one is.

        Raises:
            RuntimeError: It would go on for ever: all elements were seen, and none was given.
        """
        if not self._num_fruitless:
            self._fruitless_since = _clock()
        self._num_fruitless += count
        most = self.most_fruitless()
        if most is not None and self._num_fruitless >= most:
            # From 0 again: whoever asks once more behind the error has a search of the same length.
            told, self._num_fruitless = self._told_fruitless(), 0
            raise RuntimeError(
                f"{told[0]}, and would search for ever: the source has no end, and this was all of it more than once. "
                f"{told[1]}"
            )
        if self._fruitless_since and _clock() - self._fruitless_since > _LONG_NS:
            self._fruitless_since = 0  # once in each search: nobody waits for the second one longer
            told = self._told_fruitless()
            warn(f"{told[0]}, for 10 s, and goes on. {told[1]}")

    def _told_fruitless(self) -> tuple[str, str]:
        run = self.run
        found = (
            f"stage {self.number}, {self.line}, has given none of the last {self._num_fruitless:,} elements in lane "
            f"{run.lane} of {run.num_lanes} in epoch {run.epoch}"
        )
        remedy = (
            f"A lane has one place in {run.num_lanes} of its source: if what is kept lies at regular places, shuffle() "
            "before this stage brings it to all lanes; fewer lanes do, too"
        )
        return found, remedy

    def _clock_in(self) -> int:
        """Return when work begins. The CPU's time is asked for now and then: that is a system call, of up to 25 us."""
        # One look tells the share of waiting of all blocks since the one before.
        if self.ns >= self._looks_at:
            self._busy_at = _busy()
        return _clock()

    def _clock_out(self, started: int) -> None:
        """Note the time of work that is done."""
        ns = _clock() - started
        self.ns += ns
        if self._busy_at >= 0:
            self._look(ns)

    def _look(self, ns: int) -> None:
        """Note how much of a block was waiting, for it and for those since the block that was looked at before it."""
        waited, self._busy_at = max(0, ns - (_busy() - self._busy_at)), -1
        self.waiting_ns += waited * (self.ns - self._looked_at) // max(1, ns)
        self._looked_at, self._looks_at = self.ns, self.ns + _BETWEEN_LOOKS_NS


class LinkStage(LaneStage):
    """A stage that reads one other.

    Args:
        source: The stage that it reads.
        node, run: See `LaneStage`.
    """

    def __init__(self, source: LaneStage, node: nodes.StageNode, run: LaneRun) -> None:
        super().__init__(node, run, source)
        self._input = source

    def rebuild(self, tokens: Sequence[Token]) -> list[Any]:
        """Return the elements of these tokens: the input's, where a stage makes no others of them."""
        return self._input.rebuild(tokens)


def rebuilt_by_part(tokens: Sequence[Token], stage_of: Callable[[int], LaneStage]) -> list[Any]:
    """Return elements whose tokens are (part, token): the stage of each part is asked once for all of its own.

    Raises:
        Exception: What the user's functions raise.
    """
    # By their tokens: one that several stages behind hold is asked for twice, and computed once.
    of_part: dict[int, dict[Token, Any]] = {}
    for part, token in tokens:
        of_part.setdefault(part, {})[token] = None
    for part, found in of_part.items():
        found.update(zip(found, stage_of(part).rebuild(list(found)), strict=True))
    return [of_part[part][token] for part, token in tokens]


def _kept(tokens: Sequence[Token], verdicts: list[Any]) -> Sequence[Token]:
    """Return the tokens of what is kept; of the places of a root as an array, without an object for each."""
    # As many as verdicts: behind an error there are fewer of these, and the mask would not fit.
    if type(tokens) is range and len(verdicts) == len(tokens):
        with contextlib.suppress(TypeError):  # NumPy's bools make no bytes
            places = np.arange(tokens.start, tokens.stop, tokens.step)
            return array("q", places[np.frombuffer(bytes(verdicts), np.bool_)].tobytes())
    return list(compress(tokens, verdicts))


def no_verdict(line: str, got: Any) -> TypeError:
    """Return the error of a filter that returned no bool."""
    if got is None:
        what = "None: did you forget `return`?"
    elif isinstance(got, np.ndarray):
        what = f"an array: {reprlib.repr(got)}. Take .all() or .any() of it"
    else:
        what = f"{type(got).__name__}: {reprlib.repr(got)}. Make a bool of it, bool(...)"
    return TypeError(f"{line} must return True or False for each sample, got {what}")


class Applied(LinkStage):
    """A stage that calls a function of the user's for each element of its one input.

    Elements that were taken and not used, those behind an error, wait in ``_values`` and ``_tokens``. The error is kept
    until it is raised; the element that it is of waits before those, so that a snapshot that is taken meanwhile has it
    computed, and raised, again.

    Args:
        source, node, run: See `LinkStage`.
    """

    def __init__(self, source: LaneStage, node: nodes.StageNode, run: LaneRun) -> None:
        super().__init__(source, node, run)
        self._values: list[Any] = []
        self._tokens: list[Token] = []
        self._error: BaseException | None = None

    def _take(self, count: int) -> Block:
        """Return the next elements of the input, or raise what was raised for the first of them."""
        if not self._tokens:
            # No error waits either: it does so with the element that it is of.
            block = self._input.pull(count)
            self.num_in += len(block[1])
            return block
        if self._error is not None:
            error, self._error = self._error, None
            # Its element goes with it, and no sooner: a snapshot that was taken until now has it computed, and raised,
            # again.
            del self._values[0], self._tokens[0]
            self._num_fruitless = 0  # as it is for whoever goes on from here
            raise error
        block = self._values[:count], self._tokens[:count]
        del self._values[:count], self._tokens[:count]
        return block

    def _each(self, enter: Callable[[Any, Token], None], values: list[Any], tokens: Sequence[Token]) -> int:
        """Call a function with each element and its token, and return how many it took; an error is kept."""
        done = 0
        try:
            for value, token in zip(values, tokens, strict=True):
                self.mark(token)
                enter(value, token)
                done += 1
        except BaseException as error:
            if passes_at_once(error):
                raise
            self._keep(error, values[done:], tokens[done:])
        return done

    def _keep(self, error: BaseException, values: list[Any], tokens: Sequence[Token]) -> None:
        """Keep an error, and the elements from the one on that it is of; or leave that one out."""
        is_left_out = self.leaves_out(error, tokens[0])
        # In front of what waits, which came behind them. The first one is not among them if it is left out.
        self._values[:0], self._tokens[:0] = values[is_left_out:], tokens[is_left_out:]
        if not is_left_out:
            self._error = never_an_end(error)

    def save_to(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the tokens that wait."""
        self._save_with(states, held, {})

    def _save_with(self, states: list[Any], held: Sequence[Token], own: dict[str, Any]) -> None:
        """Add the tokens that wait, and what a subclass has; ``held`` are tokens of the input."""
        states.append({"waiting": list(self._tokens), **own})
        self._input.save_to(states, together(held, self._tokens))

    def load_from(self, states: Iterator[Any]) -> None:
        """Go to where this was saved."""
        self._load_own(states)

    def _load_own(self, states: Iterator[Any]) -> Any:
        """Go to where this was saved, and return the item of this stage."""
        state = next(states)
        self._input.load_from(states)
        self._tokens = tokens_of(state["waiting"])
        self._values = self._input.rebuild(self._tokens) if self._tokens else []
        return state


class MapStage(Applied):
    """The results of a function, called with each element."""

    node: nodes.MapNode

    def pull(self, count: int) -> Block:
        """Return the next elements, and the tokens of those that they were made of."""
        out: list[Any] = []
        while not out:
            values, tokens = self._take(count)
            if not tokens:
                return values, tokens
            self._apply(values, tokens, out)
            if not out:  # they were left out
                self._note_fruitless(len(tokens))
        self._num_fruitless = 0
        self.num_out += len(out)
        # Those from an error on wait, with tokens of their own.
        return out, tokens[: len(out)]

    def _apply(self, values: list[Any], tokens: Sequence[Token], out: list[Any]) -> None:
        started = self._clock_in()
        run = self.run
        try:
            map_to(values, tokens, self.node.function, run.begin, self.seed, run.epoch, out, self.line)
        except BaseException as error:
            if passes_at_once(error):
                raise
            # Results stand in the order of the values: the one that raised is the one behind the last of them.
            done = len(out)
            self._keep(error, values[done:], tokens[done:])
        self._clock_out(started)

    def rebuild(self, tokens: Sequence[Token]) -> list[Any]:
        """Return what the function returns for the elements of these tokens."""
        made: list[Any] = []
        run = self.run
        # Not by `map_to`: these were given before, so none of them is None, and no error is to wait for its turn.
        apply_to(self._input.rebuild(tokens), tokens, self.node.function, run.begin, self.seed, run.epoch, made)
        return made


class FilterStage(Applied):
    """The elements for which a function returns True."""

    node: nodes.FilterNode

    def pull(self, count: int) -> Block:
        """Return the next elements that are kept."""
        while True:
            values, tokens = self._take(count)
            if not tokens:
                return values, tokens
            verdicts = self._judge(values, tokens)
            out = list(compress(values, verdicts))
            if out:
                kept = _kept(tokens, verdicts)
                self.num_out += len(out)
                self._num_fruitless = 0
                return out, kept
            self._note_fruitless(len(tokens))

    def _judge(self, values: list[Any], tokens: Sequence[Token]) -> list[Any]:
        started = self._clock_in()
        run = self.run
        verdicts: list[Any] = []
        error: BaseException | None = None
        try:
            apply_to(values, tokens, self.node.function, run.begin, self.seed, run.epoch, verdicts)
        except BaseException as raised:
            if passes_at_once(raised):
                raise
            error = raised
        # Before what was raised, which came behind it in the block.
        if not VERDICTS.issuperset(map(type, verdicts)):  # looked at once for each block, which costs 20 ns a sample
            error = self._wrong(verdicts)
        if error is not None:
            done = len(verdicts)
            self._keep(error, values[done:], tokens[done:])
        self._clock_out(started)
        return verdicts

    def _wrong(self, verdicts: list[Any]) -> TypeError:
        """Return the error of the first verdict that is none, and take it and those behind it away."""
        at = next(at for at, verdict in enumerate(verdicts) if type(verdict) not in VERDICTS)
        got = verdicts[at]
        del verdicts[at:]
        return no_verdict(self.line, got)
