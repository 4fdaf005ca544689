"""The bases of stages of a lane that make an element of several elements of their input.

The token of such an element is the tuple of their tokens. The elements that a stage holds, computes again and names by
ids follow from the tokens. A subclass defines only how it takes elements, and how it combines them.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any

from mpqueue.dataset.description.ids import SampleIds, concatenated
from mpqueue.dataset.lanes.applied import Applied
from mpqueue.dataset.lanes.gates import admitted
from mpqueue.dataset.lanes.stages import Block, LaneStage, LinkStage, Token, token_of
from mpqueue.worker.runners.lanes import LaneRun


class OfTuples(LinkStage):
    """A stage whose tokens are tuples of the tokens of its input."""

    def join(self, values: list[Any], tokens: Sequence[Token]) -> Any:
        """Return the element that is made of these elements, without side effects."""
        raise NotImplementedError

    def again(self, tokens: Sequence[Token]) -> list[Any]:
        """Return these elements, made again."""
        return [self.join(values, token) for values, token in zip(self.parts_again(tokens), tokens, strict=True)]

    def parts_again(self, tokens: Sequence[Sequence[Any]]) -> list[list[Any]]:
        """Return the elements that each of these is made of, computed again."""
        flat = [token_of(token) for token in chain(*tokens)]
        values = iter(self._input.again(flat) if flat else ())
        return [list(islice(values, len(token))) for token in tokens]

    def sample_ids(self, tokens: Sequence[Token]) -> list[SampleIds]:
        """Return the ids of the samples of each element."""
        return [concatenated(self._input.sample_ids(token)) for token in tokens]


class Merging(OfTuples, Applied):
    """A stage that makes an element of consecutive elements that it holds.

    Args:
        source, node, run: See `LinkStage`.
    """

    def __init__(self, source: LaneStage, node: Any, run: LaneRun) -> None:
        super().__init__(source, node, run)
        self.open: list[tuple[Any, Token]] = []  # the elements that it holds

    def fill(self, count: int) -> bool:
        """Read until this stage holds that many elements without excluded samples; return False if there are fewer."""
        tokens = [token for _, token in self.open]
        self.open = list(zip(*admitted(self, [value for value, _ in self.open], tokens), strict=True))
        while len(self.open) < count:
            values, read = self._take(count - len(self.open))
            if not read:
                return False
            self.open += zip(*admitted(self, values, read), strict=True)
        return True

    def made_of(self, elements: list[tuple[Any, Token]]) -> Block:
        """Return the element that is made of these in a block, which is empty if it is skipped because of an error."""
        values, tokens = map(list, zip(*elements, strict=True))
        made = self.calls.made(tokens, lambda: self.join(values, tokens))
        self.num_out += len(made)
        self.search.end()
        return made, [tuple(tokens)] * len(made)

    def get_state(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the tokens of the elements that it holds."""
        tokens = [token for _, token in self.open]
        self._save_with(states, [*chain(*held), *tokens], {"open": tokens})

    def set_state(self, states: Iterator[Any]) -> None:
        """Restore a saved state."""
        self.open = list(zip(*self._input.held(self._load_own(states)["open"]), strict=True))
