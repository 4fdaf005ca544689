"""Several inputs of a lane as one: `zip`, `concatenate`, `mix`.

Each works lane by lane: on lane l of its inputs. An input is asked for a block when its next element is the next one
that is needed, and for no other reason: so an error, or an end, comes where it would if elements were asked for one by
one. What was taken and is not needed yet waits; a snapshot has its tokens.
"""

from collections.abc import Sequence
from typing import Any

from mpqueue.dataset.held import together
from mpqueue.dataset.mixing import shares_of, shuffled
from mpqueue.dataset.nodes import JoinNode, MixNode
from mpqueue.dataset.passes import RepeatStage
from mpqueue.dataset.stages import Block, LaneStage, Token, rebuilt_by_part, tokens_of
from mpqueue.worker.lanes import LaneRun


class _Branch:
    """An input, and what was taken from it and not used yet.

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

    def fill(self, count: int) -> int:
        """Take elements if none waits; return how many wait, of the ``count`` that are needed at most."""
        if not self.tokens:
            self.values, tokens = self.stage.pull(count)
            self.tokens = list(tokens)
        return min(count, len(self.tokens))

    def take(self, count: int) -> Block:
        """Return the first that wait."""
        block = self.values[:count], self.tokens[:count]
        del self.values[:count], self.tokens[:count]
        return block

    def save(self, held: Sequence[Token]) -> Any:
        """Return the state of the input, and the tokens that wait."""
        return [self.stage.save(together(held, self.tokens)), list(self.tokens)]

    def load(self, state: Any) -> None:
        """Go to where this was saved."""
        self.stage.load(state[0])
        self.tokens = tokens_of(state[1])
        self.values = self.stage.rebuild(self.tokens) if self.tokens else []


class JoiningStage(LaneStage):
    """A stage that reads several inputs.

    Args:
        inputs: They.
        node, run: See `LaneStage`.
    """

    def __init__(self, inputs: Sequence[LaneStage], node: JoinNode, run: LaneRun) -> None:
        super().__init__(node, run, *inputs)
        self._branches = [_Branch(stage) for stage in inputs]
        self._has_ended = False

    def _save(self, held: list[list[Token]]) -> dict[str, Any]:
        """Return the states of all inputs, of each of which these tokens are held."""
        saved = [branch.save(tokens) for branch, tokens in zip(self._branches, held, strict=True)]
        return {"inputs": saved, "ended": self._has_ended}

    def load(self, state: Any) -> None:
        """Go to where this was saved."""
        for branch, saved in zip(self._branches, state["inputs"], strict=True):
            branch.load(saved)
        self._has_ended = state["ended"]


class ZipStage(JoiningStage):
    """Tuples of an element of each input, until one has ended."""

    def pull(self, count: int) -> Block:
        """Return the next tuples; their tokens are tuples of those of the elements."""
        if self._has_ended:
            return [], []
        for branch in self._branches:
            # No more than the one before it has: of those behind that, an error or an end would come too early.
            count = branch.fill(count)
            if not count:
                # For good: what waits of the others has no partner.
                self._has_ended = True
                return [], []
        blocks = [branch.take(count) for branch in self._branches]
        self.num_in += count * len(blocks)
        self.num_out += count
        values = list(zip(*(block[0] for block in blocks), strict=True))
        return values, list(zip(*(block[1] for block in blocks), strict=True))

    def save(self, held: Sequence[Token] = ()) -> Any:
        """Return the states of the inputs, and the tokens that wait."""
        return self._save([[token[at] for token in held] for at in range(len(self._branches))])

    def rebuild(self, tokens: Sequence[Token]) -> list[Any]:
        """Return these tuples."""
        columns = [
            branch.stage.rebuild([token[at] for token in tokens]) for at, branch in enumerate(self._branches)
        ]  # fmt: skip
        return list(zip(*columns, strict=True))


class BranchedStage(JoiningStage):
    """A stage whose elements are those of one of its inputs each; their tokens are (number of the input, token)."""

    def _save_of(self, held: Sequence[Token]) -> dict[str, Any]:
        of_branch: list[list[Token]] = [[] for _ in self._branches]
        for at, token in held:
            of_branch[at].append(token)
        return self._save(of_branch)

    def rebuild(self, tokens: Sequence[Token]) -> list[Any]:
        """Return these elements, each computed by its input."""
        return rebuilt_by_part(tokens, lambda at: self._branches[at].stage)


class ConcatenateStage(BranchedStage):
    """One input behind the other."""

    def __init__(self, inputs: Sequence[LaneStage], node: JoinNode, run: LaneRun) -> None:
        super().__init__(inputs, node, run)
        self._at = 0

    def pull(self, count: int) -> Block:
        """Return the next elements."""
        while self._at < len(self._branches):
            values, tokens = self._branches[self._at].stage.pull(count)
            if tokens:
                self.num_in = self.num_out = self.num_out + len(tokens)
                return values, [(self._at, token) for token in tokens]
            self._at += 1
        return [], []

    def save(self, held: Sequence[Token] = ()) -> Any:
        """Return the states of the inputs, and which is read."""
        return self._save_of(held) | {"at": self._at}

    def load(self, state: Any) -> None:
        """Go to where this was saved."""
        super().load(state)
        self._at = state["at"]


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
    are `RepeatStage` without end; "all": it ends where the last one begins anew; "never": it does not.

    Args:
        inputs, node, run: See `JoiningStage`.
    """

    def __init__(self, inputs: Sequence[LaneStage], node: MixNode, run: LaneRun) -> None:
        super().__init__(inputs, node, run)
        self._picks, self._stop, self._next_pick = MixPicks(node.weights, self.seed, run), node.stop, 0
        # What has the weight 0 is never asked, and so nobody waits for its end.
        self._used = [branch for branch, weight in zip(self._branches, node.weights, strict=True) if weight > 0]

    def pull(self, count: int) -> Block:
        """Return the next elements."""
        values: list[Any] = []
        tokens: list[Token] = []
        while not tokens and not self._has_ended:
            self._give(self._picks.take(self._next_pick, count), values, tokens)
        self.num_in = self.num_out = self.num_out + len(tokens)
        return values, tokens

    def _give(self, picks: list[int], values: list[Any], tokens: list[Token]) -> None:
        """Give elements by these picks, until an input has to be asked whose error or end would come too early."""
        for number, at in enumerate(picks):
            branch = self._branches[at]
            if not branch.tokens:
                if tokens:
                    # What was picked goes out before an input is asked, whose error or end is of the pick behind it.
                    return
                if not self._fill(branch, picks[number:].count(at)):
                    if self._has_ended:
                        return
                    self._next_pick += 1  # of an input that has nothing in this lane
                    continue
            values.append(branch.values.pop(0))
            tokens.append((at, branch.tokens.pop(0)))
            self._next_pick += 1

    def _fill(self, branch: _Branch, count: int) -> bool:
        """Take elements of an input, as many as it is picked for; False: there is none, or the mix has ended."""
        is_there = branch.fill(count) > 0
        if self._stop == "first":
            self._has_ended = not is_there
        elif self._stop == "all":
            # Behind the call: with it an input may have begun anew, and been the last to do so.
            self._has_ended = all(_passes_of(used) > 0 for used in self._used)
        else:
            self._has_ended = not is_there and all(_is_empty(used) for used in self._used)
        return is_there and not self._has_ended

    def save(self, held: Sequence[Token] = ()) -> Any:
        """Return the states of the inputs, what waits, and the number of the next pick."""
        return self._save_of(held) | {"pick": self._next_pick}

    def load(self, state: Any) -> None:
        """Go to where this was saved."""
        super().load(state)
        self._next_pick = state["pick"]


def _passes_of(branch: _Branch) -> int:
    assert isinstance(branch.stage, RepeatStage)
    return branch.stage.num_passes


def _is_empty(branch: _Branch) -> bool:
    assert isinstance(branch.stage, RepeatStage)
    return branch.stage.has_ended and not branch.tokens
