"""Repeated passes over the input of a stage: of `repeat`, and of a mix with inputs that start again.

Each pass opens its input again, as a separate epoch for the stages before it. The token of an element is (pass, token).
Elements of an earlier pass are computed again by stages that are opened for it. The stages of the previous pass are
kept, because they contain the states of its sources.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mpqueue.dataset.description.ids import SampleIds
from mpqueue.dataset.description.nodes import StageNode
from mpqueue.dataset.lanes.stages import Block, LaneStage, Token, by_part_again, counts_of, found_by_part
from mpqueue.telemetry.stage_rows import StageRow, summed
from mpqueue.worker.runners.lanes import LaneRun


class RepeatStage(LaneStage):
    """Repeated passes over its input.

    Args:
        open_pass: A function that opens the input for the pass with an index.
        times: The number of passes; None if unlimited. Then a pass without elements in the lane is the last.
        node, run: See `LaneStage`.
        is_hidden: Whether it belongs to another stage, such as a mix, and has no row of counts.

    Attributes:
        num_passes: The number of completed passes.
        has_ended: Whether the last element has been returned.
    """

    def __init__(
        self,
        open_pass: Callable[[int], LaneStage],
        times: int | None,
        node: StageNode,
        run: LaneRun,
        *,
        is_hidden: bool = False,
    ) -> None:
        super().__init__(node, run)
        self._open, self._times, self._is_hidden = open_pass, times, is_hidden
        self.num_passes = 0
        self.has_ended = times == 0
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
                pass_index = self.num_passes
                return values, [(pass_index, token) for token in tokens]
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
        """Return the index of the current pass."""
        return max(0, self.num_passes - self.has_ended)

    def get_state(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the pass, the state of its input, and the state of the previous pass's input if its elements are held."""
        of_pass: dict[int, list[Token]] = {}
        for pass_index, token in held:
            of_pass.setdefault(pass_index, []).append(token)
        now = self._pass()
        # No later stage holds an element of the previous pass. Release its stages, which may hold files and buffers.
        if now - 1 not in of_pass:
            self._before = None
        state = {"pass": self.num_passes, "ended": self.has_ended, "given": self._has_given}
        states.append(state | {"begun": self._now is not None, "before": self._before is not None})
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
        return found_by_part(tokens, lambda pass_index, inner: self._stages_of(pass_index).sample_ids(inner))

    def _stages_of(self, pass_index: int) -> LaneStage:
        if pass_index == self._pass():
            return self._input()
        if pass_index == self._pass() - 1 and self._before is not None:
            return self._before
        return self._open(pass_index)

    def is_ahead(self) -> bool:
        """Return whether the input has read ahead."""
        return self._now is not None and self._now.is_ahead()

    def count_to(self, rows: list[StageRow]) -> None:
        """Add a row for each stage, summed over all passes."""
        rows += self._counts_of_passes()
        if not self._is_hidden:
            super().count_to(rows)
