"""The stages of a lane: iterators over the elements of their inputs, in blocks.

A lane of a stream is a chain or a tree of stages. Elements are requested from the last stage, which requests them from
the stages before it. They are passed in blocks, because a Python call per sample and stage would cost more than small
samples do. A stage reads the elements that it needs. Only the entry of a lane reads ahead, see
`mpqueue.dataset.lanes.ahead`; `map` and `filter` with threads compute a fixed number of elements ahead.

    pull        returns the next elements, each with its *token*
    get_state   adds the position of the stage, and the tokens of the elements that it holds; never contents
    set_state   restores a state in a new object; held elements are computed again from their tokens
    again       computes elements again from their tokens, without side effects
    sample_ids  returns the ids of the samples of elements, from their tokens

A snapshot is a flat list with an item per stage, the last stage first, because formats such as JSON limit nesting, and
pipelines may be long.

A token identifies an element in its lane. It is an int or a tuple of tokens. The token of a root is the index of the
sample in the whole dataset. `map`, `filter` and `shuffle` pass tokens through, and other stages build tuples of them.
The random numbers of a sample in a stage depend only on its token (`mpqueue.seeding.seeds.position_of`), so they are
the same when the sample is computed again.

An element held by a stage needs the stages before it, because it may have to be computed again. So `get_state` receives
the tokens held by later stages. A root that cannot compute a sample by index keeps only the states that these require.

*Errors.* If a user function raises for the k-th element of a block, the k - 1 elements before it are returned first.
The next `pull` raises the error, and later elements wait (`mpqueue.dataset.lanes.applied`). An error thus replaces one
element, independent of the block boundaries, and no other element is lost. An exception of a signal handler is raised
at once. The lane must then be discarded and opened again from its snapshot.

*Excluded samples.* Three positions look for them: the entry, the stages that merge elements, and the end of the lane
(`mpqueue.dataset.lanes.gates`).

*Cost.* Before a batch of 256, `map` takes 0.07 us per sample, `filter` 0.09 us, both including the call of an empty
function, and `shuffle(buffer=1000)` 0.17 us, in 16 lanes of ints (CPU time of one process, interleaved with the same
stream without the stage, minima over 45 s on a busy machine). A block costs about 2 us per stage, so elements that are
requested one by one cost that much each.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from mpqueue.dataset.description import nodes
from mpqueue.dataset.description.ids import SampleIds
from mpqueue.dataset.lanes.stage_work import StageClock, StageSearch
from mpqueue.dataset.lanes.user_calls import UserCalls
from mpqueue.telemetry.stage_rows import StageRow
from mpqueue.worker.runners.lanes import LaneRun

Token: TypeAlias = Any  # int | tuple[Token, ...]
Block: TypeAlias = tuple[list[Any], Sequence[Token]]


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
        stage_index: The index of the stage in its tree, from the sources upwards.
        line: The one-line description of the stage, for errors and statistics.
        seed: The seed of its random numbers.
        order_seed: The seed of its order.
        clock: The time that the stage itself worked.
        search: The elements that it read without a result.
        calls: Its calls of user code.
        num_in: The number of elements read since it was opened.
        num_out: The number of elements returned since then, without those computed again from a snapshot.
    """

    node: Any

    def __init__(self, node: nodes.StageNode, run: LaneRun, *inputs: "LaneStage") -> None:
        self.node, self.run, self.inputs = node, run, inputs
        self.stage_index, self.line = run.base + node.stage_index, node.line()
        self.seed = nodes.salted(run.seed, self.stage_index - run.zero)
        self.order_seed = self.seed
        self.num_in = self.num_out = 0
        self.clock, self.search = StageClock(), StageSearch()
        self.calls = UserCalls(run, self.stage_index, self.line, self.seed, self.clock)

    def pull(self, count: int) -> Block:
        """Return from 1 to ``count`` of the next elements with their tokens; none at the end, and at each later call.

        The caller owns the returned list. The tokens may be a range or an `array`.

        Raises:
            Exception: A user function raised for the next element.
        """
        raise NotImplementedError

    def get_state(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the state of this stage, and then the states of its inputs: plain data after pickling.

        Args:
            states: The snapshot.
            held: The tokens of its elements that will be computed again when the state is set. They are not modified.
        """
        raise NotImplementedError

    def set_state(self, states: Iterator[Any]) -> None:
        """Take the items that `get_state` added, and restore them in a new object.

        Raises:
            Exception: A user function raised while elements were computed again.
        """
        raise NotImplementedError

    def again(self, tokens: Sequence[Token]) -> list[Any]:
        """Return the elements of these tokens, which were returned before, without changing the position.

        Raises:
            Exception: A user function raised.
        """
        raise NotImplementedError

    def sample_ids(self, tokens: Sequence[Token]) -> list[SampleIds]:
        """Return the ids of the samples that each of these elements is made of, without computing the elements."""
        raise NotImplementedError

    def held(self, saved: Sequence[Any]) -> tuple[list[Any], list[Token]]:
        """Return elements that a later stage holds, computed again, and their tokens, from a state."""
        tokens = tokens_of(saved)
        return (self.again(tokens) if tokens else []), tokens

    def num_by_input(self, tokens: Sequence[Token]) -> Mapping[int, int] | None:
        """Return how many samples of these elements are from each input of the only mixture; None: by the ids."""
        return None

    def most_fruitless(self) -> int | None:
        """Return the limit of consecutive elements without result of an endless input; None if finite or unknown."""
        bounds = [most for stage in self.inputs if (most := stage.most_fruitless()) is not None]
        return sum(bounds) if bounds else None

    def is_ahead(self) -> bool:
        """Return whether this stage, or one before it, holds elements that it has read ahead of the requests."""
        return any(stage.is_ahead() for stage in self.inputs)

    def count_to(self, rows: list[StageRow]) -> None:
        """Add the rows of the inputs, and then the rows of this stage."""
        for stage in self.inputs:
            stage.count_to(rows)
        rows.append((self.row_name, self.num_in, self.num_out, self.clock.ns, self.clock.waiting_ns))

    @property
    def row_name(self) -> str:
        """The name of its row of counts, which distinguishes stages with equal descriptions."""
        return f"{self.stage_index}: {self.line}"


class LinkStage(LaneStage):
    """A stage with one input.

    Args:
        source: The input.
        node, run: See `LaneStage`.
    """

    def __init__(self, source: LaneStage, node: nodes.StageNode, run: LaneRun) -> None:
        super().__init__(node, run, source)
        self._input = source

    def again(self, tokens: Sequence[Token]) -> list[Any]:
        """Return the elements of these tokens, as the input returns them."""
        return self._input.again(tokens)

    def sample_ids(self, tokens: Sequence[Token]) -> list[SampleIds]:
        """Return the ids of these elements, as the input returns them."""
        return self._input.sample_ids(tokens)

    def num_by_input(self, tokens: Sequence[Token]) -> Mapping[int, int] | None:
        """Return the numbers of the input, if this stage has the tokens of its input."""
        return self._input.num_by_input(tokens) if type(self).sample_ids is LinkStage.sample_ids else None


def by_part_again(tokens: Sequence[Token], stage_of: Callable[[int], LaneStage]) -> list[Any]:
    """Return elements with tokens (part, token), calling the stage of each part once.

    Raises:
        Exception: A user function raised.
    """
    return found_by_part(tokens, lambda part, inner: stage_of(part).again(inner))


def found_by_part(tokens: Sequence[Token], find: Callable[[int, list[Token]], Sequence[Any]]) -> list[Any]:
    """Return a result for each token (part, token), calling a function once for the distinct tokens of each part."""
    # By token, so that an element that several later stages hold is computed once.
    of_part: dict[int, dict[Token, Any]] = {}
    for part, token in tokens:
        of_part.setdefault(part, {})[token] = None
    for part, results in of_part.items():
        results.update(zip(results, find(part, list(results)), strict=True))
    return [of_part[part][token] for part, token in tokens]


def counts_of(stage: LaneStage) -> list[StageRow]:
    """Return a row for each stage up to this one, inputs first."""
    rows: list[StageRow] = []
    stage.count_to(rows)
    return rows
