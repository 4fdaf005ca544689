"""The stage `map`: the results of a function for each element."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mpqueue.dataset.description.ids import SampleId, with_ids
from mpqueue.dataset.description.nodes import Function, LaneOpening, LinkNode, Traits, returned_none
from mpqueue.dataset.indexed.applying import apply_to
from mpqueue.dataset.indexed.readers import IndexedRun, LinkReader, Positions, ReaderMaker
from mpqueue.dataset.lanes.applied import Applied
from mpqueue.dataset.lanes.stages import Block, LaneStage, Token
from mpqueue.dataset.lanes.threaded import ThreadedStage, helpers_of
from mpqueue.worker import context
from mpqueue.worker.concurrency.in_order import Helping, InOrder
from mpqueue.worker.failures import passes_at_once
from mpqueue.worker.runners.lanes import LaneRun

_NONE = type(None)


class OfPair:
    """A function of a pair (element, id) that calls a function of two arguments.

    Args:
        function: The function of an element and its id.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, pair: tuple[Any, SampleId]) -> Any:
        """Return the result for an element and its id."""
        return self._function(*pair)


class MapReader(LinkReader):
    """The results of a function."""

    node: "MapNode"

    def __init__(self, node: "MapNode", maker: ReaderMaker) -> None:
        super().__init__(node, maker)
        self._helpers: Helping | None = None  # keeps the threads between two blocks

    def at(self, positions: Positions, run: IndexedRun) -> list[Any]:
        """Return the results of the function for the elements at these indices."""
        values = self.input.at(positions, run)
        if self.node.with_id:
            values = with_ids(values, self.input.sample_ids(positions, run))
        # A helper thread uses no helpers: all of them might wait for each other.
        if self.node.concurrency or (self.node.threads > 1 and len(positions) > 1 and not context.is_helper()):
            if run.fixed is not None:
                return run.fixed.watched(self._at_once, positions, values, run)
            return self._at_once(positions, values, run)
        made: list[Any] = []
        try:
            self.node.map_to(values, positions, run, self.seed(run), made)
        except BaseException as error:
            self._add_note(error, positions, len(made), run)
            raise
        return made

    def _at_once(self, positions: Positions, values: list[Any], run: IndexedRun) -> list[Any]:
        """Call the function for all elements, several at a time. `mpqueue.rng` is seeded per sample in each call."""
        helpers = self._helpers = helpers_of(self.node)
        call = helpers.in_context(self.node.function_of_value(), self.seed(run), run.epoch)
        made: list[Any] = []
        with InOrder(helpers, call, zip(positions, values, strict=True)) as calls:
            try:
                while len(made) < len(positions):
                    result = calls.next()
                    if result is None:
                        raise returned_none(self.node.line())
                    made.append(result)
            except BaseException as error:
                self._add_note(error, positions, len(made), run)
                raise
        self.beside_ns = max(0, calls.beside_ns)
        self.beside_busy_ns = int(self.beside_ns * (1 - helpers.clock.waiting_share))
        return made


class MapStage(Applied):
    """The results of a function for each element.

    Args:
        source, node, run: See `LinkStage`.
    """

    node: "MapNode"

    def pull(self, count: int) -> Block:
        """Return the next results, with the tokens of their elements."""
        out: list[Any] = []
        while not out:
            values, tokens = self._take(count)
            if not tokens:
                return values, tokens
            self._apply(values, tokens, out)
            if not out:  # all were skipped
                self.search.note(self, len(tokens))
        self.search.end()
        self.num_out += len(out)
        # Elements from an error on wait with their tokens.
        return out, tokens[: len(out)]

    def _apply(self, values: list[Any], tokens: Sequence[Token], out: list[Any]) -> None:
        started = self.clock.start()
        elements = self._elements(values, tokens)
        try:
            self.node.map_to(elements, tokens, self.run, self.seed, out)
        except BaseException as error:
            if passes_at_once(error):
                raise
            # Results are in the order of the values, so the value after the last result raised.
            done = len(out)
            self._keep(error, values[done:], tokens[done:])
        self.clock.stop(started)

    def again(self, tokens: Sequence[Token]) -> list[Any]:
        """Return the results of the function for the elements of these tokens."""
        made: list[Any] = []
        elements = self._elements(self._input.again(tokens), tokens)
        self.node.map_to(elements, tokens, self.run, self.seed, made)
        return made

    def _elements(self, values: list[Any], tokens: Sequence[Token]) -> list[Any]:
        """Return the argument of the function for each element."""
        return with_ids(values, self._input.sample_ids(tokens)) if self.node.with_id else values


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class MapNode(LinkNode):
    """The results of a function for each element.

    Attributes:
        function: The function.
        threads: The number of threads that call the function.
        concurrency: The number of coroutines that call it; 0 for a plain function.
        with_id: Whether the function also receives the id of the sample.
    """

    name: ClassVar[str] = "map"
    traits: ClassVar[Traits] = Traits(flows=True, keeps_positions=True, is_opened_in_lanes=True)
    reader: ClassVar[Any] = MapReader
    function: Function
    threads: int = 1
    concurrency: int = 0
    with_id: bool = False

    def function_of_value(self) -> Function:
        """Return the function to call with an element, or with a pair (element, id)."""
        return OfPair(self.function) if self.with_id else self.function

    def map_to(
        self, values: list[Any], positions: Sequence[Any], run: IndexedRun | LaneRun, seed: int, results: list[Any]
    ) -> None:
        """Call the function for each value, or pair (value, id); see `apply_to`.

        Raises:
            TypeError: The function returned None. Later values of the block may have been computed, too: the check runs
                once per block and costs 20 ns per value.
        """
        try:
            apply_to(values, positions, self.function_of_value(), run.begin, seed, run.epoch, results)
        except Exception:
            if _NONE not in set(map(type, results)):
                raise
        if _NONE in set(map(type, results)):
            del results[next(at for at, made in enumerate(results) if made is None) :]
            raise returned_none(self.line())

    def order_line(self) -> None:
        """Return None: the stage does not affect the order."""

    def open(self, opening: LaneOpening, run: LaneRun, *, is_last: bool = False) -> LaneStage:  # noqa: ARG002
        """Open this stage and those before it in a lane."""
        source = opening.input(self, run)
        if self.threads == 1 and not self.concurrency:
            return MapStage(source, self, run)
        return ThreadedStage(source, self, run, self.function_of_value(), with_id=self.with_id)
