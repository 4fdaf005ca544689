"""The stage `take_while`: the elements of a lane before the first one that a function does not accept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mpqueue.dataset.description.nodes import Function, LinkNode, StageNode, Traits
from mpqueue.dataset.lanes.applied import InTurnStage
from mpqueue.dataset.lanes.stages import LaneStage, Token
from mpqueue.dataset.lanes.user_calls import VERDICTS, no_verdict
from mpqueue.worker.runners.lanes import LaneRun


class TakeWhileStage(InTurnStage):
    """The elements of a lane before the first one that a function does not accept."""

    node: "TakeWhileNode"

    def __init__(self, source: LaneStage, node: StageNode, run: LaneRun) -> None:
        super().__init__(source, node, run)
        self._has_ended = False

    def _enter(self, out: list[Any], out_tokens: list[Token], value: Any, token: Token) -> None:
        if self._has_ended:
            return
        self.calls.begin(token)
        verdict = self.node.function(value)
        if type(verdict) not in VERDICTS:
            raise no_verdict(self.line, verdict)
        if verdict:
            out.append(value)
            out_tokens.append(token)
        else:
            self._has_ended = True

    def get_state(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add whether the last element was returned."""
        self._save_with(states, held, {"ended": self._has_ended})

    def set_state(self, states: Iterator[Any]) -> None:
        """Restore a saved state."""
        self._has_ended = self._load_own(states)["ended"]


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class TakeWhileNode(LinkNode):
    """The elements before the first one that a function does not accept.

    Attributes:
        function: A function that returns True for the elements to take.
    """

    name: ClassVar[str] = "take_while"
    traits: ClassVar[Traits] = Traits(makes_stream=True, passes_elements=True)
    lane_stage: ClassVar[Any] = TakeWhileStage
    function: Function
