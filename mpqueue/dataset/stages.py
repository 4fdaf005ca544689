"""The stages of a lane: blocks of elements with tokens, and snapshots of positions.

A lane of a stream is a chain or a tree of stages. Elements are requested from the last stage, which requests them from
the stages before it. They are passed in blocks, because a Python call per sample and stage would cost more than small
samples do.

    pull     returns the next elements, each with its *token*
    save     returns the position of the stage and of those before it, and the tokens of held elements; never contents
    load     restores a saved state in a new object; held elements are computed again from their tokens
    rebuild  computes elements again from their tokens, without side effects

A snapshot is a flat list with an item per stage, the last stage first, because formats such as JSON limit nesting, and
pipelines may be long. `save_to` adds the item of a stage and then its inputs' items. `load_from` takes the item of a
stage and then its inputs' items.

A token identifies an element in its lane. It is an int or a tuple of tokens. The token of a root is the index of the
sample in the whole dataset. `map`, `filter` and `shuffle` pass tokens through, and other stages build tuples of them.
The random numbers of a sample in a stage depend only on its token (`mpqueue.seeding.seeds.place_of`), so they are the
same when the sample is computed again.

An element held by a stage needs the stages before it, because it may have to be computed again. `save` therefore
receives the tokens held by later stages, and passes them to its input together with its own. A root that cannot compute
a sample by index keeps only the states that these tokens require.

*Errors.* If a user function raises for the k-th element of a block, the k - 1 elements before it are returned first.
The next `pull` raises the error, and later elements wait (`Applied`). An error thus replaces one element,
independent of the block boundaries, and no other element is lost. With ``run.skip`` the element is skipped instead.
Later stages see the same elements in both cases, because elements are counted when they are returned. An exception of a
signal handler is raised at once. The lane must then be discarded and opened again from its snapshot.

*Cost.* Before a batch of 256, `map` takes 0.07 us per sample, `filter` 0.09 us, both including the call of an empty
function, and `shuffle(buffer=1000)` 0.17 us, in 16 lanes of ints (CPU time of one process, interleaved with the same
stream without the stage, minima over 45 s on a busy machine). A block costs about 2 us per stage, so elements that are
requested one by one cost that much each.
"""

import reprlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from mpqueue.dataset import nodes
from mpqueue.dataset.held import together
from mpqueue.dataset.ids import Keep, SampleIds
from mpqueue.engine.skips import Skipped, may_skip
from mpqueue.samples.leaves import no_sample
from mpqueue.seeding.seeds import place_of
from mpqueue.system.exceptions import add_note, cause_of
from mpqueue.system.log import warn
from mpqueue.telemetry.stage_rows import StageRow
from mpqueue.worker.failures import never_an_end, passes_at_once
from mpqueue.worker.lanes import LaneRun
from mpqueue.worker.retry_markers import RetryBegin

Token: TypeAlias = Any  # int | tuple[Token, ...]
Block: TypeAlias = tuple[list[Any], Sequence[Token]]

_BETWEEN_LOOKS_NS = 10_000_000  # of a stage's own time; every 2 ms would take 5 % of the time for lanes of ints
# After this time, a stage that returns no elements warns. If its source is endless and repeats, it gives up after this
# number of elements. A filter that keeps one of 10,000 at random is stopped by that once in 10**8 elements.
_LONG_NS, LEAST_FRUITLESS = 10_000_000_000, 200_000
VERDICTS = {bool, np.bool_}
_clock = time.perf_counter_ns
_busy = time.thread_time_ns


def token_of(saved: Any) -> Token:
    """Return a saved token, which may have become nested lists (as in JSON)."""
    return saved if type(saved) is int else tuple([token_of(item) for item in saved])


def tokens_of(saved: Sequence[Any]) -> list[Token]:
    """Return saved tokens."""
    return list(saved) if set(map(type, saved)) <= {int} else [token_of(item) for item in saved]


class LaneStage:
    """An open stage of a lane.

    Args:
        node: The description of the stage.
        run: The run that the lane was opened with.
        inputs: The stages that it reads.

    Attributes:
        number: The number of the stage in its tree, from the sources upwards.
        line: The one-line description of the stage, for errors and statistics.
        seed: The seed of its random numbers.
        num_in: The number of elements read since it was opened.
        num_out: The number of elements returned since then, without those computed again from a snapshot.
        ns: The time that the stage itself worked, in nanoseconds.
        waiting_ns: The part of that time in which it waited for anything but a CPU. Both are updated for each block.
    """

    node: Any

    def __init__(self, node: nodes.StageNode, run: LaneRun, *inputs: "LaneStage") -> None:
        self.node, self.run, self.inputs = node, run, inputs
        self.number, self.line = run.base + node.number, node.line()
        self.seed = nodes.salted(run.seed, self.number - run.zero)
        self.num_in = self.num_out = self.ns = self.waiting_ns = 0
        self._looks_at, self._looked_at, self._busy_at = 0, 0, -1
        self._num_fruitless = self._fruitless_since = 0

    def opened(self) -> Token | None:
        """Return the token of the element that the current items belong to; None if there are no items."""
        return None

    def take_latest(self, number: int) -> list[Any]:  # noqa: ARG002 - only for stages that return items
        """Return the item with this number of the open element in a list, or an empty list if it is unavailable."""
        return []

    def most_fruitless(self) -> int | None:
        """Return the limit of consecutive elements without result of an endless input; None if finite or unknown."""
        bounds = []
        for stage in self.inputs:
            most = stage.most_fruitless_behind()
            if most is not None:
                bounds.append(most)
        return sum(bounds) if bounds else None

    def most_fruitless_behind(self) -> int | None:
        """Return the same limit for the elements that this stage returns."""
        return self.most_fruitless()

    def pull(self, count: int) -> Block:
        """Return from 1 to ``count`` of the next elements with their tokens; none at the end, and at each later call.

        The caller owns the returned list. The tokens may be a range or an `array`. A stage reads only the elements of
        its input that it needs.

        Raises:
            Exception: A user function raised for the next element.
        """
        raise NotImplementedError

    def save(self, held: Sequence[Token] = ()) -> list[Any]:
        """Return the state of this stage and those before it, which is plain data after pickling.

        Args:
            held: The tokens of its elements that must be rebuilt when the state is loaded. They are not modified.
        """
        states: list[Any] = []
        self.save_to(states, held)
        return states

    def load(self, states: Sequence[Any]) -> None:
        """Restore a state of `save` in a new object.

        Raises:
            Exception: A user function raised while elements were computed again.
        """
        self.load_from(iter(states))

    def save_to(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the state of this stage, and then the states of its inputs.

        Args:
            states: The snapshot.
            held: See `save`.
        """
        raise NotImplementedError

    def load_from(self, states: Iterator[Any]) -> None:
        """Take the items that `save_to` added, and restore them.

        Raises:
            Exception: A user function raised while elements were computed again.
        """
        raise NotImplementedError

    def rebuild(self, tokens: Sequence[Token]) -> list[Any]:
        """Return the elements of these tokens, which were returned before, without changing the position.

        Raises:
            Exception: A user function raised.
        """
        raise NotImplementedError

    def rebuilt(self, tokens: list[Token]) -> tuple[list[Any], list[Token]]:
        """Return the elements that can be computed again, with their tokens; see `LaneRun.failed`."""
        if not tokens:
            return [], tokens
        try:
            return self.rebuild(tokens), tokens
        except BaseException as error:
            if self.run.failed is None or passes_at_once(error):
                raise
        values: list[Any] = []
        made = []
        for token in tokens:
            try:
                values += self.rebuild([token])
            except BaseException as error:
                if passes_at_once(error):
                    raise
                if self.run.skip is None or not may_skip(error):
                    self.run.failed.append(error)
                    continue
                left = self.without_raising(token, tells=False)
                if left is None:
                    continue
                token = left  # noqa: PLW2901
                values += self.rebuild([token])
            made.append(token)
        return values, made

    def without_raising(self, token: Token, *, tells: bool) -> Token | None:
        """Return the token of an element without its parts that raise when they are computed again; None: all do.

        An element that was made whole may raise when it lacks samples which were excluded. Here, it has no parts.

        Args:
            token: The token.
            tells: Count and log the parts as skipped.

        Raises:
            BaseException: The error of a part is not skipped.
        """
        try:
            self.rebuild([token])
        except BaseException as error:
            if passes_at_once(error) or not (self.leaves_out(error, token) if tells else may_skip(error)):
                raise
            return None
        return token

    def sample_ids(self, tokens: Sequence[Token]) -> list[SampleIds]:
        """Return the ids of the samples that each of these elements is made of, without computing the elements."""
        raise NotImplementedError

    def num_by_input(self, tokens: Sequence[Token]) -> Mapping[int, int] | None:  # noqa: ARG002 - for some stages
        """Return how many samples of these elements are from each input of the only mixture.

        None: the ids of the samples are needed. They take ten times as long, 1.5 us per sample.
        """
        return None

    def drop_from(self, states: Iterator[Any], keep: Keep) -> None:
        """Remove excluded elements from a snapshot of this stage and its inputs.

        Like `load_from`, it takes the items that `save_to` added. What follows an item depends on the item alone: in
        the meantime, `sample_ids` may have opened inputs that the snapshot lacks.
        """
        raise NotImplementedError

    @property
    def is_settled(self) -> bool:
        """True if the state of this stage and its inputs follows from the number of elements that it has returned."""
        for stage in self.inputs:  # noqa: SIM110 - a generator would add a C frame per stage
            if not stage.is_settled:
                return False
        return True

    def take_singly(self) -> None:
        """Return a single element at each call of `pull`, whatever is requested."""
        pull = self.pull
        self.pull = lambda count: pull(1)  # type: ignore[method-assign]  # noqa: ARG005

    def kept(self, tokens: Sequence[Token], keep: Keep) -> list[Token]:
        """Return the tokens of elements of this stage without excluded samples; without those that have no other."""
        return [token for token in self.reduced(tokens, keep) if token is not None] if tokens else []

    def reduced(self, tokens: Sequence[Token], keep: Keep) -> list[Token | None]:
        """Return the token of each element without its excluded samples, or None for an element that is left out.

        Here, an element with an excluded sample is left out as a whole.
        """
        keeps = keep(self.sample_ids(tokens))
        return [token if is_kept else None for token, is_kept in zip(tokens, keeps, strict=True)]

    @property
    def row_name(self) -> str:
        """The name of its row of counts, which distinguishes stages with equal descriptions."""
        return f"{self.number}: {self.line}"

    def counts(self) -> list[StageRow]:
        """Return a row for each stage that was opened, inputs first."""
        rows: list[StageRow] = []
        self.count_to(rows)
        return rows

    def count_to(self, rows: list[StageRow]) -> None:
        """Add the rows of the inputs, and then the rows of this stage."""
        for stage in self.inputs:
            stage.count_to(rows)
        rows.append((self.row_name, self.num_in, self.num_out, self.ns, self.waiting_ns))

    def begin(self, token: Token) -> None:
        """Seed the random generators for an element in this stage."""
        self.run.begin(self.seed, self.run.epoch, place_of(token))

    def mark(self, token: Token) -> None:
        """Record the element in its retry marker, if crashes are being attributed to single samples."""
        if self.is_single:
            self.begin(token)

    @property
    def is_single(self) -> bool:
        """True if samples must be computed one by one; see `mpqueue.worker.retry_markers`."""
        begin = self.run.begin
        return type(begin) is RetryBegin and begin.is_single

    @property
    def may_run_ahead(self) -> bool:
        """True to read ahead of the requested elements."""
        begin = self.run.begin
        return self.run.runs_ahead and (type(begin) is not RetryBegin or begin.runs_ahead)

    @property
    def is_alone(self) -> bool:
        """True while an element has a retry marker: a crash must not be attributed to another element."""
        begin = self.run.begin
        return type(begin) is RetryBegin and not begin.runs_ahead

    def leaves_out(self, error: BaseException, *tokens: Token) -> bool:
        """Handle an error of user code: return True if its elements are skipped, False if the error must be raised."""
        # Also for an error that is raised: the note names the sample.
        add_note(error, self.error_note(*tokens))
        skip = self.run.skip
        if skip is None or not may_skip(error):
            return False
        skip(Skipped.because_of(error, *tokens))
        return True

    def error_note(self, *tokens: Token) -> str:
        """Return the note of an error: stage, sample and lane."""
        # At most eight tokens: a row of packed text may have hundreds.
        which = f"sample {tokens[0]!r}" if len(tokens) == 1 else f"samples {', '.join(map(repr, tokens[:8]))}"
        more = ", ..." if len(tokens) > 8 else ""
        lane = f"lane {self.run.lane} of {self.run.num_lanes}"
        return f"raised by stage {self.number}, {self.line}, for {which}{more} of epoch {self.run.epoch} in {lane}"

    def refuse_none(self, token: Token) -> TypeError:
        """Return the error for an element that is None and cannot be part of a batch."""
        before = self.node.input
        hint = "did `__getitem__` forget to return?" if before.is_indexed else "did its function forget to return?"
        return no_sample(f"element {token!r} of stage {self.number - 1}, {before.line()},", hint)

    def _made(self, tokens: Sequence[Token], make: Callable[[], Any]) -> list[Any]:
        """Return the result made of several elements in a list, or an empty list if they are skipped.

        Raises:
            BaseException: The result could not be made, and errors are not skipped.
        """
        started = self._clock_in()
        try:
            self.mark(tokens[0])
            return [make()]
        except BaseException as error:
            if passes_at_once(error):
                raise
            if not self.leaves_out(error, *tokens):
                raise never_an_end(error) from cause_of(error)
            return []
        finally:
            self._clock_out(started)

    def _note_fruitless(self, count: int) -> None:
        """Count elements that were read without a result. `_num_fruitless` must be reset to 0 at the next result.

        Raises:
            RuntimeError: All elements of an endless input were read without a result.
        """
        if not self._num_fruitless:
            self._fruitless_since = _clock()
        self._num_fruitless += count
        most = self.most_fruitless()
        if most is not None and self._num_fruitless >= most:
            # Reset, so that a caller that continues after the error gets another search of the same length.
            description, self._num_fruitless = self._fruitless_message(), 0
            raise RuntimeError(
                f"{description[0]}, and would search forever: its source is endless, and all of its samples were read "
                f"more than once. {description[1]}"
            )
        if self._fruitless_since and _clock() - self._fruitless_since > _LONG_NS:
            self._fruitless_since = 0  # warn once per search
            description = self._fruitless_message()
            warn(f"{description[0]}, for 10 s, and continues. {description[1]}")

    def _fruitless_message(self) -> tuple[str, str]:
        run = self.run
        summary = (
            f"stage {self.number}, {self.line}, has returned none of the last {self._num_fruitless:,} elements in lane "
            f"{run.lane} of {run.num_lanes} in epoch {run.epoch}"
        )
        remedy = (
            f"A lane reads one of {run.num_lanes} elements of its source. If the elements to keep are at regular "
            "indices, use shuffle() before this stage to distribute them over all lanes, or use fewer lanes"
        )
        return summary, remedy

    def _clock_in(self) -> int:
        """Return the start time of work. The CPU time is read only occasionally: that system call takes up to 25 us."""
        # One reading determines the waiting share of all blocks since the previous reading.
        if self.ns >= self._looks_at:
            self._busy_at = _busy()
        return _clock()

    def _clock_out(self, started: int) -> None:
        """Add the time of completed work."""
        ns = _clock() - started
        self.ns += ns
        if self._busy_at >= 0:
            self._look(ns)

    def _look(self, ns: int) -> None:
        """Read the CPU time, and apply the waiting share of this block to all blocks since the previous reading."""
        waited, self._busy_at = max(0, ns - (_busy() - self._busy_at)), -1
        self.waiting_ns += waited * (self.ns - self._looked_at) // max(1, ns)
        self._looked_at, self._looks_at = self.ns, self.ns + _BETWEEN_LOOKS_NS


class LinkStage(LaneStage):
    """A stage with one input.

    Args:
        source: The input.
        node, run: See `LaneStage`.
    """

    def __init__(self, source: LaneStage, node: nodes.StageNode, run: LaneRun) -> None:
        super().__init__(node, run, source)
        self._input = source

    def rebuild(self, tokens: Sequence[Token]) -> list[Any]:
        """Return the elements of these tokens, as the input returns them."""
        return self._input.rebuild(tokens)

    def sample_ids(self, tokens: Sequence[Token]) -> list[SampleIds]:
        """Return the ids of these elements, as the input returns them."""
        return self._input.sample_ids(tokens)

    def num_by_input(self, tokens: Sequence[Token]) -> Mapping[int, int] | None:
        """Return the numbers of the input, if this stage has the tokens of its input."""
        return self._input.num_by_input(tokens) if type(self).sample_ids is LinkStage.sample_ids else None

    def reduced(self, tokens: Sequence[Token], keep: Keep) -> list[Token | None]:
        """Return the token of each element without its excluded samples, as the input returns it."""
        return self._input.reduced(tokens, keep)

    def without_raising(self, token: Token, *, tells: bool) -> Token | None:
        """Leave out the parts of the input's element, if this stage has the tokens of its input."""
        left = token
        if type(self).sample_ids is LinkStage.sample_ids:
            left = self._input.without_raising(token, tells=tells)
        return None if left is None else super().without_raising(left, tells=tells)

    def without_raising_elements(self, batch: Sequence[Token], *, tells: bool) -> Token | None:
        """Leave out elements of a batch, whose token is the tuple of their tokens."""
        left = [self._input.without_raising(each, tells=tells) for each in batch]
        kept = tuple(each for each in left if each is not None)
        return LaneStage.without_raising(self, kept, tells=tells) if kept else None

    def drop_from(self, states: Iterator[Any], keep: Keep) -> None:
        """Remove excluded elements from the snapshot of this stage, and then from that of its input."""
        self._drop_own(next(states), keep)
        self._input.drop_from(states, keep)

    def _drop_own(self, state: dict[str, Any], keep: Keep) -> None:
        """Remove excluded elements that this stage holds from the item of this stage."""


def rebuilt_by_part(tokens: Sequence[Token], stage_of: Callable[[int], LaneStage]) -> list[Any]:
    """Return elements with tokens (part, token), calling the stage of each part once.

    Raises:
        Exception: A user function raised.
    """
    return found_by_part(tokens, lambda part, inner: stage_of(part).rebuild(inner))


def found_by_part(tokens: Sequence[Token], find: Callable[[int, list[Token]], Sequence[Any]]) -> list[Any]:
    """Return a result for each token (part, token), calling a function once for the distinct tokens of each part."""
    # By token, so that an element that several later stages hold is computed once.
    of_part: dict[int, dict[Token, Any]] = {}
    for part, token in tokens:
        of_part.setdefault(part, {})[token] = None
    for part, results in of_part.items():
        results.update(zip(results, find(part, list(results)), strict=True))
    return [of_part[part][token] for part, token in tokens]


def reduced_by_part(
    tokens: Sequence[Token], reduce: Callable[[int, list[Token]], Sequence[Token | None]]
) -> list[Token | None]:
    """Return each token (part, token) without its excluded samples, or None; see `found_by_part`."""
    inner = found_by_part(tokens, reduce)
    return [None if token is None else (part, token) for (part, _), token in zip(tokens, inner, strict=True)]


def no_verdict(line: str, result: Any) -> TypeError:
    """Return the error for a filter that did not return a bool."""
    if result is None:
        description = "None: did you forget `return`?"
    elif isinstance(result, np.ndarray):
        description = f"an array: {reprlib.repr(result)}. Use .all() or .any()"
    else:
        description = f"{type(result).__name__}: {reprlib.repr(result)}. Convert it with bool(...)"
    return TypeError(f"{line} must return True or False for each sample, got {description}")


class Applied(LinkStage):
    """A stage that calls a user function for each element of its input.

    Elements that were read and not used wait in ``_values`` and ``_tokens``, for example after an error. The failed
    element is the first of them until its error is raised. A snapshot taken before that computes it, and raises the
    error, again.

    Args:
        source, node, run: See `LinkStage`.
    """

    def __init__(self, source: LaneStage, node: nodes.StageNode, run: LaneRun) -> None:
        super().__init__(source, node, run)
        self._values: list[Any] = []
        self._tokens: list[Token] = []
        self._error: BaseException | None = None
        # Whether the last element that was taken is in the last one that was returned, or no element was taken.
        self._is_exact = True

    @property
    def is_settled(self) -> bool:
        """True if no element waits, and none was taken after the last one that was returned."""
        return self._is_exact and not self._tokens and self._input.is_settled

    def _take(self, count: int) -> Block:
        """Return the next elements of the input, or raise the error of the first of them."""
        self._is_exact = True
        if not self._tokens:
            # No error is waiting, either: it would wait together with its element.
            block = self._input.pull(count)
            self.num_in += len(block[1])
            return block
        if self._error is not None:
            error, self._error = self._error, None
            # Remove the failed element only now: from a snapshot taken before, it is computed, and its error raised,
            # again.
            del self._values[0], self._tokens[0]
            self._num_fruitless = 0  # as after a resume from here
            raise error
        block = self._values[:count], self._tokens[:count]
        del self._values[:count], self._tokens[:count]
        return block

    def _each(self, enter: Callable[[Any, Token], bool | None], values: list[Any], tokens: Sequence[Token]) -> int:
        """Call a function with each element and its token, and return the number of successful calls; keep an error.

        If the function returns True, no further element is needed, and the remaining ones wait.
        """
        done = 0
        try:
            for value, token in zip(values, tokens, strict=True):
                self.mark(token)
                is_enough = enter(value, token)
                done += 1
                if is_enough:
                    self._values[:0], self._tokens[:0] = values[done:], tokens[done:]
                    break
        except BaseException as error:
            if passes_at_once(error):
                raise
            self._keep(error, values[done:], tokens[done:])
        return done

    def _keep(self, error: BaseException, values: list[Any], tokens: Sequence[Token]) -> None:
        """Keep an error with the elements from the failed one on, or skip the failed element."""
        self._is_exact = False
        is_left_out = self.leaves_out(error, tokens[0])
        # Before the waiting elements, which follow in the stream. A skipped element is dropped.
        self._values[:0], self._tokens[:0] = values[is_left_out:], tokens[is_left_out:]
        if not is_left_out:
            self._error = never_an_end(error)

    def save_to(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the tokens of the waiting elements."""
        self._save_with(states, held, {})

    def _save_with(self, states: list[Any], held: Sequence[Token], own: dict[str, Any]) -> None:
        """Add the tokens of the waiting elements and the state of a subclass; ``held`` are tokens of the input."""
        states.append({"waiting": list(self._tokens), **own})
        self._input.save_to(states, together(held, self._tokens))

    def _drop_own(self, state: dict[str, Any], keep: Keep) -> None:
        state["waiting"] = self._input.kept(tokens_of(state["waiting"]), keep)

    def load_from(self, states: Iterator[Any]) -> None:
        """Restore a saved state."""
        self._load_own(states)

    def _load_own(self, states: Iterator[Any]) -> Any:
        """Restore a saved state, and return the item of this stage."""
        state = next(states)
        self._input.load_from(states)
        self._values, self._tokens = self._input.rebuilt(tokens_of(state["waiting"]))
        return state
