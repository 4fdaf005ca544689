"""The base of stages of a lane with several inputs.

Each stage works lane by lane, on lane l of its inputs. A block is requested from an input only when its next element is
the next one needed. An error or the end of an input therefore occurs at the same element as if elements were requested
one by one. Elements that are not needed yet wait, and a snapshot contains their tokens.

An input is opened on first use, and an input of a concatenation is closed when exhausted: there may be 10,000 inputs
in each of many lanes. A snapshot contains only the inputs that have been opened.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import compress
from typing import Any

from mpqueue.dataset.description.ids import Keep, SampleIds, prefixed
from mpqueue.dataset.description.nodes import JoinNode
from mpqueue.dataset.lanes.stages import Block, LaneStage, Token, by_part_again, found_by_part
from mpqueue.dataset.lanes.tokens import together
from mpqueue.telemetry.clock import clock_ns
from mpqueue.telemetry.stage_rows import StageRow
from mpqueue.worker.runners.lanes import LaneRun

_CHEAP_NS = 50_000


class Branch:
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
        # The next block takes that time at most: a part of the time is the fixed cost of a block.
        self._num_cheap = num_waiting * _CHEAP_NS // (1 + took_ns)
        return min(count, num_waiting)

    def exclude(self, keep: Keep | None) -> None:
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
        open_input: A function that opens the input with an index.
        bound: A function that returns the `LaneStage.most_fruitless` of an input that is not open; None if no input can
            be endless.
        can_reopen: A function that returns whether elements of an input can be computed again without the input's
            state.
        flows: A function that returns whether an input flows, see `mpqueue.dataset.description.nodes.NodeProperties`.
    """

    def __init__(
        self,
        open_input: Callable[[int], LaneStage],
        bound: Callable[[int], int | None] | None,
        can_reopen: Callable[[int], bool],
        flows: Callable[[int], bool],
    ) -> None:
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
        self._branches: dict[int, Branch] = {}  # open inputs, by index
        self._closed_rows: list[StageRow] = []  # of inputs that were closed
        self._bounds: tuple[int, list[int]] = (-1, [])  # of inputs that are not open yet
        self._has_ended = False

    def _branch(self, at: int) -> Branch:
        branch = self._branches.get(at)
        if branch is None:
            branch = self._branches[at] = Branch(self._inputs.open(at))
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

    def is_ahead(self) -> bool:
        """Return whether an open input has read ahead."""
        return any(branch.stage.is_ahead() for branch in self._branches.values())

    def count_to(self, rows: list[StageRow]) -> None:
        """Add the rows of the inputs that were opened, and then the rows of this stage."""
        rows += self._closed_rows
        for branch in self._branches.values():
            branch.stage.count_to(rows)
        super().count_to(rows)


class BranchedStage(JoiningStage):
    """A stage that takes each element from one of its inputs. A token is a pair (index of the input, token)."""

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
