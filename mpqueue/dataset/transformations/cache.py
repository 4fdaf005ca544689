"""The stage `cache` of a lane: each element is computed once and then stored.

Element n of lane l of L is stored under the index n * L + l, with its token. An end marker follows the last element.
The input is always run with seed 0 in epoch 0, and with separate random numbers (`mpqueue.worker.runners.fixed_seeds`).
Its stages are counted from its own first one, also in a part of a larger dataset, which may use the same cache. So a
pass over it yields the same elements in each epoch, unless an error occurs or an element draws numbers that cannot be
seeded. After both, later elements may have other numbers. Therefore, from there to the end of the pass, elements are
neither stored nor read from the cache.

The input does not advance while elements are in the cache. When one is missing, the input runs from its own position to
the missing element. Missing elements before it are stored, and the others are dropped. Cheap elements are computed in
blocks, and wait until they are needed. A snapshot contains both positions, and the tokens of waiting elements. It does
not record which elements are cached: a process that loads it may find all of them, or none.

An error on that way belongs to an element that was returned before, or to a later one: `map` with threads, for example,
reads ahead and skips elements that it cannot read. Only the tokens of the following elements show which. So these
elements get the indices of the returned elements with the same tokens. A snapshot contains the last of these tokens,
because the cache may be empty when it is loaded.

The token of an element is its index with the token of the input, which is needed to compute it again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, ClassVar, TypeVar

from mpqueue.dataset.caching.caches import Cache
from mpqueue.dataset.caching.record_files import MISSING
from mpqueue.dataset.description.ids import SampleIds
from mpqueue.dataset.description.nodes import LaneOpening, LinkNode, StageNode, Traits
from mpqueue.dataset.indexed.readers import IndexedRun, LinkReader, Positions, ReaderMaker
from mpqueue.dataset.lanes.gates import CLOSED
from mpqueue.dataset.lanes.stages import Block, LaneStage, LinkStage, Token, token_of
from mpqueue.engine.skips import Skipped
from mpqueue.system.signals.exceptions import cause_of
from mpqueue.telemetry.clock import clock_ns
from mpqueue.worker import context
from mpqueue.worker.failures import never_an_end, passes_at_once
from mpqueue.worker.random_state.user_generators import UserGenerators
from mpqueue.worker.runners.fixed_seeds import FixedSeeds
from mpqueue.worker.runners.lanes import LaneRun
from mpqueue.worker.torch_info import is_of_iterable_dataset

T = TypeVar("T")
AnyRun = TypeVar("AnyRun", IndexedRun, LaneRun)

_BLOCK_NS = 500_000  # of elements that are computed together
_END = None  # distinguishable, because elements are stored as pairs


SEED_KEPT = EPOCH_KEPT = 0  # of all stages before a cache


def _kept_run(run: AnyRun) -> AnyRun:
    """Return the run of the stages before a cache.

    Its seed, epoch and first stage are fixed: a stored value must not depend on the process, the dataset or
    the time of its computation.
    """
    return run._replace(seed=SEED_KEPT, epoch=EPOCH_KEPT, zero=run.base)


def held_generators(root: StageNode) -> UserGenerators:
    """Return the generators that the stages up to one hold. Their numbers do not depend on later stages."""
    # Generators of torch's iterable-style datasets are not seeded anywhere, see `user_generators`.
    sources = [
        source
        for source in (getattr(node, "source", None) for _, node in root.stages())
        if source is not None and not is_of_iterable_dataset(source)
    ]
    return UserGenerators((sources, [function for _, node in root.stages() for function in node.functions()]))


class CacheReader(LinkReader):
    """Cached elements."""

    node: "CacheNode"

    def __init__(self, node: "CacheNode", maker: ReaderMaker) -> None:
        super().__init__(node, maker)
        self._held: UserGenerators | None = None  # of the stages before the cache; searched for at the first miss
        self._is_exact = True  # of the elements that were computed last

    def at(self, positions: Positions, run: IndexedRun) -> list[Any]:
        """Return elements; missing ones are computed and stored. An element without some samples is never stored."""
        if run.skip is not None:
            return [self._rest(position, run) for position in positions]
        whole = run._replace(keep=None)
        if run.keep is None:
            return self._stored(positions, whole)
        keeps = run.keep(self.sample_ids(positions, whole))
        if all(keeps):
            return self._stored(positions, whole)
        stored = iter(self._stored(list(compress(positions, keeps)), whole))
        left = iter(
            self._computed([position for position, is_whole in zip(positions, keeps, strict=True) if not is_whole], run)
        )
        return [next(stored if is_whole else left) for is_whole in keeps]

    def _stored(self, positions: Positions, whole: IndexedRun) -> list[Any]:
        return self.node.cache.values(positions, lambda missing: self._computed(missing, whole), lambda: self._is_exact)

    def _computed(self, positions: list[int], run: IndexedRun) -> list[Any]:
        """Return elements of the input."""
        held = self._held = self._held or held_generators(self.node.input)
        seeds = FixedSeeds(held, run.begin, self.node.cache.tell_of_draws)
        inner = _kept_run(run)._replace(begin=seeds.begin, fixed=seeds)
        num_late = held.num_late
        made = seeds.run(self.input.at, positions, inner)
        if held.num_late != num_late:
            # The first element has created a generator, which is seeded from here on.
            seeds.is_exact = True
            made = seeds.run(self.input.at, positions, inner)
        self._is_exact = seeds.is_exact
        if run.fixed is not None:  # a cache after this one stores what depends on these elements
            run.fixed.is_exact &= seeds.is_exact
        return made

    def _rest(self, position: int, run: IndexedRun) -> Any:
        """Return an element without the samples that raise."""
        assert run.skip is not None
        whole, cache = run._replace(keep=None, skip=None), self.node.cache
        is_whole = run.keep is None or all(run.keep(self.sample_ids([position], whole)))
        element = cache.get(position) if is_whole else MISSING
        if element is MISSING:
            # By ids, because an element may be computed twice for its random numbers.
            skipped: dict[tuple[Any, ...], Skipped] = {}

            def note(entry: Skipped) -> None:
                skipped[entry.ids] = entry

            try:
                (element,) = self._computed([position], run._replace(skip=note))
            finally:  # also if no sample is left
                for entry in skipped.values():
                    run.skip(entry)
            if is_whole and not skipped and self._is_exact:
                element = cache.put(position, element)
        return element

    def origin(self, position: int, run: IndexedRun) -> str:
        """Return a description of a sample."""
        return self.input.origin(position, _kept_run(run))

    def sample_ids(self, positions: Positions, run: IndexedRun) -> list[SampleIds]:
        """Return the ids of the samples of elements, computed with the seed of the cache."""
        return self.input.sample_ids(positions, _kept_run(run))


class CacheStage(LinkStage):
    """The elements of its input, read from a cache if possible.

    Args:
        source, node, run: See `LinkStage`.
        seeds: The random numbers of the input.
    """

    def __init__(self, source: LaneStage, node: "CacheNode", run: LaneRun, seeds: FixedSeeds) -> None:
        super().__init__(source, node, run)
        self._cache = node.cache
        self._next = self._position = 0  # index of the next element, and of the input's next element
        self._read: Sequence[Token] = ()  # the tokens of the last read elements, among them the last returned one
        self._kept_to: int | None = None  # from here on, this pass does not use the cache; None if it stores elements
        self._num_lost = 0  # errors on the input's way to the next element, without errors of known elements
        self._returned: dict[Token, int] | None = None  # after one: the indices of elements that were returned before
        self._known_from = 0  # these are all such elements from this index on
        self._seeds = seeds
        self._each_ns = _BLOCK_NS  # time per element of the last block
        self._waiting: list[Any] = []  # elements of a block of the input that are not used yet
        self._waiting_tokens: list[Token] = []

    def pull(self, count: int) -> Block:
        """Return the next elements; computed ones are returned one at a time."""
        values, tokens, has_ended = self._kept(count)
        if not tokens and not has_ended:
            values, tokens = self._computed(count)
        if tokens:
            self._next, self._read = self._next + len(tokens), tokens
            self.num_out += len(tokens)
        return values, tokens

    def _kept(self, count: int) -> tuple[list[Any], Sequence[Token], bool]:
        """Return the next elements that are in the cache, and whether the end follows."""
        values: list[Any] = []
        tokens: list[Token] = []
        started = self.clock.start()
        for index in range(self._next, self._next + count):
            entry = self._get(index)
            if entry is MISSING or entry is _END:
                break
            values.append(entry[0])
            tokens.append((index, entry[1]))
        self.clock.stop(started)
        if entry is not MISSING:
            context.worker_info()  # the process that stored the element has read its share; do the same
        return values, tokens, not tokens and entry is _END

    def _taken(self, count: int) -> Block:
        """Return the next element of the input; it is read in blocks while its elements are cheap."""
        if not self._waiting_tokens:
            # Saving and restoring all generators takes as long as dozens of small elements.
            is_block = self._position == self._next and self.run.skip is None and self.run.may_run_ahead
            count = max(1, min(count, _BLOCK_NS // self._each_ns)) if is_block else 1
            started, self._each_ns = clock_ns(), _BLOCK_NS
            self._waiting, tokens = self._with_seeds(self._input.pull, count)
            self._waiting_tokens = list(tokens)
            self._each_ns = 1 + (clock_ns() - started) // count
        block = self._waiting[:1], self._waiting_tokens[:1]
        del self._waiting[:1], self._waiting_tokens[:1]
        return block

    def _computed(self, count: int) -> Block:
        """Return the next element of the input; ``count`` elements are needed."""
        self._num_lost, self._returned = 0, None
        while True:
            try:
                values, tokens = self._taken(count)
            except BaseException as error:
                if passes_at_once(error) or self.note_error():
                    raise
                continue
            if not tokens:
                self._end(self._position + self._num_lost)
                return [], []
            self.num_in += 1
            self._position = index = self._index_at(tokens[0])
            is_next = index == self._next
            try:
                values = [self._put(index, values[0], tokens[0])]
            except BaseException as error:
                if passes_at_once(error):
                    raise
                self._leave_cache()
                if is_next:
                    if not self.calls.handles(error, tokens[0]):
                        raise never_an_end(error) from cause_of(error)
                    continue
            self._position += 1
            # Earlier elements were already returned from the cache. They were read only to reach this one.
            if is_next:
                return values, [(index, tokens[0])]

    def _index_at(self, token: Token) -> int:
        """Return the index of the input's next element, which has this token."""
        if self._returned is None:
            if not self._num_lost:
                return self._position
            earlier = range(self._position, self._next)
            tokens = {index: token for index, token in self._read if index == self._next - 1}
            entries = ((index, self._get(index)) for index in earlier)
            tokens |= {index: entry[1] for index, entry in entries if entry is not MISSING and entry is not _END}
            self._returned = {token_of(token): index for index, token in tokens.items()}
            self._known_from = 1 + max((index for index in earlier if index not in tokens), default=-1)
        index = self._returned.get(token)
        if index is None:
            # It follows the lost elements, unless it may be one that was returned before.
            index = self._position
            if index >= self._known_from:
                index = min(index + self._num_lost, self._next)
        self._num_lost = max(0, self._num_lost - (index - self._position))
        return index

    def _with_seeds(self, compute: Callable[..., T], argument: Any) -> T:
        """Return the result of a method of the input that runs user code."""
        try:
            return self._seeds.run(compute, argument)
        finally:
            # Numbers that were not seeded may also decide which elements follow.
            if not self._seeds.is_exact:
                self._leave_cache()

    def note_error(self) -> bool:
        """Record an error of the input; return False if its element may be one that was returned before."""
        # From here on, numbers may differ from a pass without errors.
        self._leave_cache()
        if self._position == self._next:
            return True
        self._num_lost += 1
        return False

    def _leave_cache(self) -> None:
        """Store no more elements, and read only elements that were returned before."""
        if self._kept_to is None:
            self._kept_to = self._next
        if self.run.fixed is not None:  # a cache after this one stores what depends on these elements
            self.run.fixed.is_exact = False

    def _end(self, index: int) -> None:
        """Record that the input has no element with this index."""
        if index < self._next:
            raise RuntimeError(
                f"{self.inputs[0].line} ended before element {self._next} of lane {self.run.lane}, which it "
                "has returned before: it must return the same elements in each pass"
            )
        if self._kept_to is None:
            self._cache.put(self._cell_of(index), _END, self.run.num_lanes)

    def _put(self, index: int, value: Any, token: Token) -> Any:
        """Store an element if it is missing, and return it."""
        if self._kept_to is not None or self._get(index) is not MISSING:
            return value
        return self._cache.put(self._cell_of(index), (value, token), self.run.num_lanes)[0]

    def _cell_of(self, index: int) -> int:
        """Return the index of an element among all lanes, which depends on the number of lanes."""
        return index * self.run.num_lanes + self.run.lane

    def _get(self, index: int) -> Any:
        if self._kept_to is not None and index >= self._kept_to:
            return MISSING
        return self._cache.get(self._cell_of(index), self.run.num_lanes)

    def get_state(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the indices of the next element and of the input's next element, and the token between them."""
        state: dict[str, Any] = {"next": self._next, "place": self._position, "kept_to": self._kept_to}
        if self._position < self._next and self._read:
            state["last"] = self._read[self._next - 1 - self._read[0][0]][1]
        if self._waiting_tokens:
            state["waiting"] = list(self._waiting_tokens)
        states.append(state)
        self._input.get_state(states, [*(token for _, token in held), *self._waiting_tokens])

    def set_state(self, states: Iterator[Any]) -> None:
        """Restore a saved state."""
        state = next(states)
        self._next, self._position, self._kept_to = state["next"], state["place"], state["kept_to"]
        if "last" in state:
            self._read = [(self._next - 1, token_of(state["last"]))]
        self._with_seeds(self._input.set_state, states)
        if "waiting" in state:
            self._waiting, self._waiting_tokens = self._with_seeds(self._input.held, state["waiting"])

    def again(self, tokens: Sequence[Token]) -> list[Any]:
        """Return these elements; the input computes missing ones."""
        inner = [token_of(token) for _, token in tokens]
        cached = [self._cached(index, token) for (index, _), token in zip(tokens, inner, strict=True)]
        missing = [token for token, kept in zip(inner, cached, strict=True) if kept is MISSING]
        made = iter(self._with_seeds(self._input.again, missing) if missing else ())
        return [next(made) if kept is MISSING else kept[0] for kept in cached]

    def _cached(self, index: int, token: Token) -> Any:
        """Return the entry of an element; the cache has no elements without some of their samples."""
        entry = self._get(index)
        return entry if entry is not MISSING and entry is not _END and token_of(entry[1]) == token else MISSING

    def sample_ids(self, tokens: Sequence[Token]) -> list[SampleIds]:
        """Return the ids of these elements."""
        return self._input.sample_ids([token_of(token) for _, token in tokens])


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class CacheNode(LinkNode):
    """Elements that are computed once and then cached.

    The stages before a cache always run with seed 0 in epoch 0. An element is therefore the same whether it is cached
    or not, and no matter which process stored it.

    Attributes:
        cache: The storage of the elements.
    """

    name: ClassVar[str] = "cache"
    traits: ClassVar[Traits] = Traits(
        passes_elements=True, keeps_positions=True, keeps_whole=True, keeps_order=False, repeats_first_epoch=True
    )
    reader: ClassVar[Any] = CacheReader
    cache: Cache

    def order_line(self) -> str:
        """Return the stage without its folder."""
        return "cache()"

    def open(self, opening: LaneOpening, run: LaneRun, *, is_last: bool = False) -> LaneStage:
        """Open this stage and those before it in a lane."""

        def skip(skipped: Skipped) -> None:
            stage.note_error()
            assert run.skip is not None
            run.skip(skipped)

        seeds = FixedSeeds(held_generators(self.input), run.begin, self.cache.tell_of_draws)
        before = _kept_run(run)._replace(begin=seeds.begin, skip=run.skip and skip, keep=None, gate=CLOSED, fixed=seeds)
        stage = CacheStage(opening.open(self.input, before), self, run, seeds)
        return stage
