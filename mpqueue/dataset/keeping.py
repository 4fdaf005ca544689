"""The elements of a lane, each of which is computed once, and kept: `cache` of what is a stream.

Element n of lane l of L is kept under the number n * L + l, with its token; behind the last one stands an end. As the
input is always in epoch 0 of seed 0, a pass over it gives the same in each epoch, as long as nothing is raised. Where
something was raised, later elements may have other numbers (an error takes the place of an element, or it is left out),
so from there to the end of that pass nothing is kept, and nothing that was kept is used.

The input stays where it is while elements are there without it. When one lacks, the input goes on from its own place to
that one: what it gives on its way is kept, too, where it lacks, and dropped otherwise. A snapshot has both places.
Nothing in it tells what is kept: whoever loads it may find all of it, or nothing.

The token of an element is its number with the token of the input, by which it is computed again where it is not kept.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mpqueue.dataset.nodes import CacheNode
from mpqueue.dataset.record_files import MISSING
from mpqueue.dataset.stages import Block, LaneStage, LinkStage, Token, token_of
from mpqueue.engine.skips import Skipped
from mpqueue.worker import context
from mpqueue.worker.failures import never_an_end, passes_at_once
from mpqueue.worker.lanes import LaneRun

_END = None  # elements are pairs


class SkipsBefore:
    """A function that is called for each element that the stages before a cache leave out.

    Args:
        skip: What is called for each element that the lane leaves out.

    Attributes:
        stage: The stage of the cache, once it is there.
    """

    def __init__(self, skip: Callable[[Skipped], None]) -> None:
        self._skip = skip
        self.stage: CacheStage | None = None

    def __call__(self, skipped: Skipped) -> None:
        """Note it."""
        assert self.stage is not None
        self.stage.note_error()
        self._skip(skipped)


class CacheStage(LinkStage):
    """The elements of its input, from where they are kept.

    Args:
        source, node, run: See `LinkStage`.
    """

    def __init__(self, source: LaneStage, node: CacheNode, run: LaneRun) -> None:
        super().__init__(source, node, run)
        self._cache = node.cache
        self._next = self._place = 0  # of the next element, and of the input
        self._kept_to: int | None = None  # from here on nothing is kept in this pass

    def pull(self, count: int) -> Block:
        """Return the next elements; those that have to be computed one at a time."""
        values, tokens, has_ended = self._kept(count)
        if not tokens and not has_ended:
            values, tokens = self._computed()
        self._next += len(tokens)
        self.num_out += len(tokens)
        return values, tokens

    def _kept(self, count: int) -> tuple[list[Any], Sequence[Token], bool]:
        """Return the next elements, as far as they are kept, and whether there are none behind them."""
        values: list[Any] = []
        tokens: list[Token] = []
        started = self._clock_in()
        for number in range(self._next, self._next + count):
            found = self._get(number)
            if found is MISSING or found is _END:
                break
            values.append(found[0])
            tokens.append((number, found[1]))
        self._clock_out(started)
        if found is not MISSING:
            context.worker_info()  # whoever has kept it has asked for the share of this lane
        return values, tokens, not tokens and found is _END

    def _computed(self) -> Block:
        """Return the next element, of the input."""
        while True:
            try:
                values, tokens = self._input.pull(1)
            except BaseException as error:
                if passes_at_once(error) or self.note_error():
                    raise
                continue
            number = self._place
            if not tokens:
                self._end(number)
                return [], []
            self.num_in += 1
            try:
                values = [self._put(number, values[0], tokens[0])]
            except BaseException as error:
                if passes_at_once(error):
                    raise
                self.note_error()
                if not self.leaves_out(error, tokens[0]):
                    raise never_an_end(error) from error.__cause__
                continue
            self._place += 1
            # What lies before was given already, from where it is kept: it was read only to come to this one.
            if number == self._next:
                return values, [(number, tokens[0])]

    def note_error(self) -> bool:
        """Note that something was raised; False: for an element that was there without the input, and is past."""
        if self._place < self._next:
            self._place += 1
            return False
        # From here on numbers may be others than in a pass without errors.
        if self._kept_to is None:
            self._kept_to = self._place
        return True

    def _end(self, number: int) -> None:
        """Note that the input has no element of this number."""
        if number < self._next:
            raise RuntimeError(
                f"{self.inputs[0].line} has ended before its element {self._next} of lane {self.run.lane}, which it "
                "has given before: it must give the same elements again"
            )
        if self._may_keep(number):
            self._cache.put(self._number_of(number), _END, self.run.num_lanes)

    def _put(self, number: int, value: Any, token: Token) -> Any:
        """Keep an element, if it lacks, and return it."""
        if not self._may_keep(number) or self._get(number) is not MISSING:
            return value
        return self._cache.put(self._number_of(number), (value, token), self.run.num_lanes)[0]

    def _number_of(self, number: int) -> int:
        """Return the number of an element among those of all lanes; as many others have other numbers."""
        return number * self.run.num_lanes + self.run.lane

    def _get(self, number: int) -> Any:
        if not self._may_keep(number):
            return MISSING
        return self._cache.get(self._number_of(number), self.run.num_lanes)

    def _may_keep(self, number: int) -> bool:
        return self._kept_to is None or number < self._kept_to

    def save_to(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the numbers of the next element and of the input's."""
        states.append({"next": self._next, "place": self._place, "kept_to": self._kept_to})
        self._input.save_to(states, [token for _, token in held])

    def load_from(self, states: Iterator[Any]) -> None:
        """Go to where this was saved."""
        state = next(states)
        self._input.load_from(states)
        self._next, self._place, self._kept_to = state["next"], state["place"], state["kept_to"]

    def rebuild(self, tokens: Sequence[Token]) -> list[Any]:
        """Return these elements: those that are not kept are computed by the input."""
        found = [self._get(number) for number, _ in tokens]
        lacking = [token_of(token) for (_, token), kept in zip(tokens, found, strict=True) if kept is MISSING]
        made = iter(self._input.rebuild(lacking) if lacking else ())
        return [next(made) if kept is MISSING else kept[0] for kept in found]
