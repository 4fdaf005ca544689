"""Several inputs of a lane as one: `zip`, `concatenate`, `mix`.

Each works lane by lane: on lane l of its inputs. An input is asked for a block when its next element is the next one
that is needed, and for no other reason: so an error, or an end, comes where it would if elements were asked for one by
one. What was taken and is not needed yet waits; a snapshot has its tokens.

A mix of many inputs needs a few elements of each at a time, and a block costs as much as dozens of small elements. So
it takes more of an input than it needs now, under the conditions of `mpqueue.dataset.ahead`: 8,192 elements of all
inputs at most, and of each input what takes less than 0.1 ms. A mix of 100 filtered streams of integers took 13 us for
an element; it takes 2, as a mix of 10 does.

An input is opened when it is asked first. A snapshot has the inputs that were opened, and an input of a concatenation
that has ended is closed: there may be 10,000 of them, and as many lanes as a stream is divided into.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mpqueue.dataset.held import together
from mpqueue.dataset.mixing import shares_of, shuffled
from mpqueue.dataset.nodes import JoinNode, MixNode
from mpqueue.dataset.passes import RepeatStage
from mpqueue.dataset.stages import Block, LaneStage, Token, rebuilt_by_part, tokens_of
from mpqueue.telemetry.clock import clock_ns
from mpqueue.telemetry.stage_rows import StageRow
from mpqueue.worker.lanes import LaneRun

_MOST_AHEAD, _CHEAP_NS = 8192, 50_000


class _Branch:
    """An input that is open, and what was taken from it and not used yet.

    Args:
        stage: The input.

    Attributes:
        values: What waits,
        tokens: and its tokens.
    """

    def __init__(self, stage: LaneStage) -> None:
        self.stage = stage
        self.values: list[Any] = []
        self.tokens: list[Token] = []
        self._num_cheap = 0  # elements that a block may have, so that it costs little

    def fill(self, count: int) -> int:
        """Take elements if none waits; return how many wait, of the ``count`` that are needed at most."""
        if not self.tokens:
            self.values, tokens = self.stage.pull(count)
            self.tokens = list(tokens)
        return min(count, len(self.tokens))

    def fill_ahead(self, count: int, most: int) -> int:
        """Do the same, and take up to ``most`` elements while a block of them costs little."""
        if self.tokens:
            return min(count, len(self.tokens))
        started = clock_ns()
        found = self.fill(max(count, min(most, self._num_cheap)))
        took_ns = clock_ns() - started
        # Twice as many as long as most of the time is that of a block, whatever its size.
        self._num_cheap = 2 * found if took_ns < _CHEAP_NS else found // 2 if took_ns > 2 * _CHEAP_NS else found
        return min(count, found)

    def take(self, count: int) -> Block:
        """Return the first that wait."""
        block = self.values[:count], self.tokens[:count]
        del self.values[:count], self.tokens[:count]
        return block

    def load_from(self, states: Iterator[Any], tokens: Sequence[Any]) -> None:
        """Go to where this was saved."""
        self.stage.load_from(states)
        self.tokens = tokens_of(tokens)
        self.values = self.stage.rebuild(self.tokens) if self.tokens else []


class JoinedInputs:
    """Opens the inputs of a stage that reads several.

    Args:
        open_input: Opens the input of a number.
        bound: Returns how many elements in a row may give nothing, of the input of a number that is not open; see
            `LaneStage.most_fruitless`. None: no input can be without end.
        can_reopen: Returns whether an element of the input of a number can be computed again without its state.
    """

    def __init__(
        self, open_input: Callable[[int], LaneStage], bound: Callable[[int], int | None] | None,
        can_reopen: Callable[[int], bool],
    ) -> None:  # fmt: skip
        self.open, self.bound, self.can_reopen = open_input, bound, can_reopen


class JoiningStage(LaneStage):
    """A stage that reads several inputs.

    Args:
        inputs: They.
        node, run: See `LaneStage`.
    """

    node: JoinNode

    def __init__(self, inputs: JoinedInputs, node: JoinNode, run: LaneRun) -> None:
        super().__init__(node, run)
        self._inputs = inputs
        self._branches: dict[int, _Branch] = {}  # those that are open, by their numbers
        self._closed_rows: list[StageRow] = []  # of those that are not open any more
        self._bounds: tuple[int, list[int]] = (-1, [])  # of those that are not open yet
        self._has_ended = False

    def _branch(self, at: int) -> _Branch:
        branch = self._branches.get(at)
        if branch is None:
            branch = self._branches[at] = _Branch(self._inputs.open(at))
        return branch

    def _close(self, at: int) -> None:
        self._branches.pop(at).stage.count_to(self._closed_rows)

    def most_fruitless(self) -> int | None:
        """Return the sum of all inputs that are without end."""
        bound = self._inputs.bound
        if bound is None:
            return None
        if self._bounds[0] != len(self._branches):
            unopened = [bound(at) for at in range(len(self.node.branches)) if at not in self._branches]
            self._bounds = len(self._branches), [most for most in unopened if most is not None]
        bounds = list(self._bounds[1])
        for branch in self._branches.values():
            most = branch.stage.most_fruitless_behind()
            if most is not None:
                bounds.append(most)
        return sum(bounds) if bounds else None

    def _save_with(self, states: list[Any], held: dict[int, list[Token]], own: dict[str, Any]) -> None:
        """Add which inputs are open with what waits of them, and what a subclass has; and then the inputs."""
        begun = [[at, list(branch.tokens)] for at, branch in self._branches.items()]
        states.append({"begun": begun, "ended": self._has_ended, **own})
        for at, branch in self._branches.items():
            branch.stage.save_to(states, together(held.get(at, ()), branch.tokens))

    def _load_own(self, states: Iterator[Any]) -> Any:
        """Go to where this was saved, and return the item of this stage."""
        state = next(states)
        for at, tokens in state["begun"]:
            self._branch(at).load_from(states, tokens)
        self._has_ended = state["ended"]
        return state

    def load_from(self, states: Iterator[Any]) -> None:
        """Go to where this was saved."""
        self._load_own(states)

    def count_to(self, rows: list[StageRow]) -> None:
        """Add the rows of the inputs that were opened, and then those of this stage."""
        rows += self._closed_rows
        for branch in self._branches.values():
            branch.stage.count_to(rows)
        super().count_to(rows)


class ZipStage(JoiningStage):
    """Tuples of an element of each input, until one has ended."""

    def pull(self, count: int) -> Block:
        """Return the next tuples; their tokens are tuples of those of the elements."""
        if self._has_ended:
            return [], []
        for at in range(len(self.node.branches)):
            # No more than the one before it has: of those behind that, an error or an end would come too early.
            count = self._branch(at).fill(count)
            if not count:
                # For good: what waits of the others has no partner.
                self._has_ended = True
                return [], []
        blocks = [self._branches[at].take(count) for at in range(len(self.node.branches))]
        self.num_in += count * len(blocks)
        self.num_out += count
        values = list(zip(*[block[0] for block in blocks], strict=True))
        return values, list(zip(*[block[1] for block in blocks], strict=True))

    def save_to(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the tokens that wait."""
        columns = {at: [token[at] for token in held] for at in range(len(self.node.branches))}
        self._save_with(states, columns, {})

    def rebuild(self, tokens: Sequence[Token]) -> list[Any]:
        """Return these tuples."""
        columns = []
        for at in range(len(self.node.branches)):
            columns.append(self._branch(at).stage.rebuild([token[at] for token in tokens]))  # noqa: PERF401
        return list(zip(*columns, strict=True))


class BranchedStage(JoiningStage):
    """A stage whose elements are those of one of its inputs each; their tokens are (number of the input, token)."""

    def _held_by_branch(self, held: Sequence[Token]) -> dict[int, list[Token]]:
        of_branch: dict[int, list[Token]] = {}
        for at, token in held:
            of_branch.setdefault(at, []).append(token)
        return of_branch

    def rebuild(self, tokens: Sequence[Token]) -> list[Any]:
        """Return these elements, each computed by its input."""
        return rebuilt_by_part(tokens, self._stage_of)

    def _stage_of(self, at: int) -> LaneStage:
        branch = self._branches.get(at)
        return self._inputs.open(at) if branch is None else branch.stage


class ConcatenateStage(BranchedStage):
    """One input after the other."""

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

    def save_to(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add which input is read."""
        of_branch = self._held_by_branch(held)
        # A stream that has ended has the states by which its elements are read again, as long as one is held.
        for at in [at for at in self._branches if at < self._at and at not in of_branch]:
            self._close(at)
        self._save_with(states, of_branch, {"at": self._at})

    def load_from(self, states: Iterator[Any]) -> None:
        """Go to where this was saved."""
        self._at = self._load_own(states)["at"]


class MixPicks:
    """The inputs from which the elements of a mix in a lane are; each block of them has the quotas of the weights.

    Args:
        weights: Of the inputs.
        seed: Of the stage.
        run: What the lane was opened with.
    """

    def __init__(self, weights: tuple[float, ...], seed: int, run: LaneRun) -> None:
        self._shares, self._words = shares_of(weights), (seed, run.epoch, run.lane)
        self._of, self._picks = -1, [0]

    def take(self, first: int, count: int) -> list[int]:
        """Return the picks of these numbers, from 1 to ``count`` of them."""
        block, start = divmod(first, self._shares.size)
        if block != self._of:
            picks = shuffled(self._shares.datasets(block), *self._words, block).tolist()
            self._picks, self._of = picks, block
        return self._picks[start : start + count]


class MixStage(BranchedStage):
    """Elements of several inputs in turn.

    With ``stop="first"`` it ends where the next element would be one of an input that has ended. Otherwise the inputs
    are `RepeatStage` without end; "all": it ends where the last one begins again; "never": it does not.

    Args:
        inputs, node, run: See `JoiningStage`.
    """

    node: MixNode

    def __init__(self, inputs: JoinedInputs, node: MixNode, run: LaneRun) -> None:
        super().__init__(inputs, node, run)
        self._picks, self._stop, self._next_pick = MixPicks(node.weights, self.seed, run), node.stop, 0
        # What has the weight 0 is never asked, so the mix does not wait for its end.
        self._num_used = sum(weight > 0 for weight in node.weights)
        # Where errors are skipped, a sample that is left out is told with the batch in which it was missed.
        self._most_ahead = 0 if run.skip is not None else _MOST_AHEAD // max(1, self._num_used)
        self._ahead = 0  # elements of an input that this call may take
        self._done: set[int] = set()  # "all": inputs that have begun again; "never": those that have nothing

    def pull(self, count: int) -> Block:
        """Return the next elements."""
        values: list[Any] = []
        tokens: list[Token] = []
        # What is asked for alone is large, and is not to pile up here.
        self._ahead = self._most_ahead if count > 1 and self.may_run_ahead else 0
        while not tokens and not self._has_ended:
            self._give(self._picks.take(self._next_pick, count), values, tokens)
        self.num_in = self.num_out = self.num_out + len(tokens)
        return values, tokens

    def _give(self, picks: list[int], values: list[Any], tokens: list[Token]) -> None:
        """Give elements by these picks, until an input has to be asked whose error or end would come too early."""
        for number, at in enumerate(picks):
            branch = self._branch(at)
            if not branch.tokens:
                if tokens:
                    # What was picked goes out before an input is asked, whose error or end is of the pick behind it.
                    return
                if not self._fill(at, branch, picks[number:].count(at)):
                    if self._has_ended:
                        return
                    self._next_pick += 1  # of an input that has nothing in this lane
                    continue
            values.append(branch.values.pop(0))
            tokens.append((at, branch.tokens.pop(0)))
            self._next_pick += 1

    def _fill(self, at: int, branch: _Branch, count: int) -> bool:
        """Take elements of an input, as many as it is picked for; False: there is none, or the mix has ended."""
        # What a stream of the user's gives next may be long in coming.
        is_ahead = self._ahead > count and self._inputs.can_reopen(at)
        is_there = (branch.fill_ahead(count, self._ahead) if is_ahead else branch.fill(count)) > 0
        if self._stop == "first":
            self._has_ended = not is_there
        else:
            # After the call: with it an input may have begun again, and been the last to do so.
            self._note(at, branch)
            self._has_ended = len(self._done) == self._num_used and (self._stop == "all" or not is_there)
        return is_there and not self._has_ended

    def _note(self, at: int, branch: _Branch) -> None:
        stage = branch.stage
        assert isinstance(stage, RepeatStage)
        if stage.num_passes > 0 if self._stop == "all" else stage.has_ended and not branch.tokens:
            self._done.add(at)

    def save_to(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the number of the next pick."""
        self._save_with(states, self._held_by_branch(held), {"pick": self._next_pick})

    def load_from(self, states: Iterator[Any]) -> None:
        """Go to where this was saved."""
        self._next_pick = self._load_own(states)["pick"]
        if self._stop != "first":
            for at, branch in self._branches.items():
                self._note(at, branch)
