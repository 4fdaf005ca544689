"""The stage `scan`: each result depends on earlier elements of the same lane.

A later stage may hold an element of `scan`, which is computed again after a resume. That needs the state before the
element, so the state is a part of the element's token. It is therefore in memory and in a snapshot once for each
element that is held.

The function receives a separate copy of a state that can be modified. So a state that is modified in place, or that is
also returned as an element, has the same values after a resume.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mpqueue.dataset.description.ids import SampleIds
from mpqueue.dataset.description.nodes import LinkNode, Traits, shown
from mpqueue.dataset.lanes.applied import InTurnStage
from mpqueue.dataset.lanes.stages import LaneStage, Token, token_of
from mpqueue.dataset.lanes.state_codes import Code, code_of, state_of
from mpqueue.worker.runners.lanes import LaneRun


class ScanStage(InTurnStage):
    """The results of a function of the state and an element.

    Args:
        source, node, run: See `LinkStage`.
    """

    node: "ScanNode"

    def __init__(self, source: LaneStage, node: "ScanNode", run: LaneRun) -> None:
        super().__init__(source, node, run)
        self._code: Code = code_of(node.initial)  # of the state before the next element

    def _enter(self, out: list[Any], out_tokens: list[Token], value: Any, token: Token) -> None:
        before = self._code
        # The state changes only if the function succeeds: an error replaces an element, and not the state.
        self._code, made = self._called(before, value, token)
        out.append(made)
        # `again` needs the state. Only the first two items of a token determine random numbers of later stages, see
        # `position_of`.
        out_tokens.append((token, 0, before))

    def _called(self, code: Code, value: Any, token: Token) -> tuple[Code, Any]:
        """Return the code of the state after an element, and the result for the element."""
        self.calls.begin(token)
        made = self.node.function(state_of(code), value)
        if not isinstance(made, tuple) or len(made) != 2 or made[1] is None:
            raise TypeError(
                f"{self.line} must return a tuple (state, element), without None as an element, got {made!r}"
            )
        state, element = made
        try:
            return code_of(state), element
        except TypeError as error:
            raise TypeError(f"{self.line} returned a state that is not plain data: {error}") from None

    def get_state(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the state."""
        self._save_with(states, [token for token, _, _ in held], {"state": self._code})

    def set_state(self, states: Iterator[Any]) -> None:
        """Restore a saved state."""
        self._code = token_of(self._load_own(states)["state"])

    def again(self, tokens: Sequence[Token]) -> list[Any]:
        """Return the results for these elements, each with the state before it."""
        values = self._input.again([token for token, _, _ in tokens])
        return [self._called(before, value, token)[1] for value, (token, _, before) in zip(values, tokens, strict=True)]

    def sample_ids(self, tokens: Sequence[Token]) -> list[SampleIds]:
        """Return the ids of the elements."""
        return self._input.sample_ids([token for token, _, _ in tokens])


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class ScanNode(LinkNode):
    """The results of a function of a state and an element, which also returns the next state.

    Attributes:
        initial: The state before the first element of a lane.
        function: The function.
    """

    name: ClassVar[str] = "scan"
    traits: ClassVar[Traits] = Traits(makes_stream=True)
    lane_stage: ClassVar[Any] = ScanStage
    initial: Any
    function: Callable[[Any, Any], Any]

    def _shown(self) -> Iterator[str]:
        # An array cannot be compared with a default value.
        yield shown(self.initial)
        yield shown(self.function)
