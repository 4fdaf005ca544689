"""The stage `cache` of a lane: each element is computed once and then stored.

Element n of lane l of L is stored under the number n * L + l, with its token. An end marker follows the last element.
The input is always run with seed 0 in epoch 0, so a pass over it yields the same elements in each epoch, unless an
error occurs. An element is replaced by an error or is skipped, so later elements may have other
numbers. Therefore, from an error to the end of the pass, elements are neither stored nor read from the cache.

The input does not advance while elements are in the cache. When one is missing, the input runs from its own position to
the missing element. Missing elements before it are stored, and the others are dropped. A snapshot contains both
positions. It does not record which elements are cached: a process that loads it may find all of them, or none.

The token of an element is its number with the token of the input, which is needed to compute it again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, ClassVar

from mpqueue.dataset.caches import Cache, NoCache
from mpqueue.dataset.ids import Keep, SampleIds
from mpqueue.dataset.indexed import IndexedRun, LinkReader, Places
from mpqueue.dataset.nodes import Facts, LaneOpening, LinkNode, StageNode
from mpqueue.dataset.record_files import MISSING
from mpqueue.dataset.stages import Block, LaneStage, LinkStage, Token, token_of
from mpqueue.engine.skips import Skipped
from mpqueue.worker import context
from mpqueue.worker.failures import never_an_end, passes_at_once
from mpqueue.worker.lanes import LaneRun

_END = None  # distinguishable, because elements are stored as pairs


SEED_KEPT = EPOCH_KEPT = 0  # of all stages before a cache


class CacheReader(LinkReader):
    """Cached elements."""

    node: "CacheNode"

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return elements; missing ones are computed and stored."""
        inner = run._replace(seed=SEED_KEPT, epoch=EPOCH_KEPT)
        # A fixed seed and epoch, so that the stored value does not depend on which process computes an element, and
        # when.
        return self.node.cache.values(places, lambda missing: self.input.at(missing, inner))

    def origin(self, place: int, run: IndexedRun) -> str:
        """Return a description of a sample."""
        return self.input.origin(place, run._replace(seed=SEED_KEPT, epoch=EPOCH_KEPT))

    def sample_ids(self, places: Places, run: IndexedRun) -> list[SampleIds]:
        """Return the ids of the samples of elements, computed with the seed of the cache."""
        return self.input.sample_ids(places, run._replace(seed=SEED_KEPT, epoch=EPOCH_KEPT))


class CacheStage(LinkStage):
    """The elements of its input, read from a cache if possible.

    Args:
        source, node, run: See `LinkStage`.
    """

    def __init__(self, source: LaneStage, node: "CacheNode", run: LaneRun) -> None:
        super().__init__(source, node, run)
        self._cache = node.cache
        self._next = self._place = 0  # number of the next element, and of the input's next element
        self._kept_to: int | None = None  # from here on, this pass does not use the cache

    def pull(self, count: int) -> Block:
        """Return the next elements; computed ones are returned one at a time."""
        while True:
            values, tokens, has_ended = self._kept(count)
            if not tokens and not has_ended:
                values, tokens = self._computed()
            self._next += len(tokens)
            if self.run.keep is not None and tokens:
                keeps = self.run.keep(self.sample_ids(tokens))
                values, tokens = list(compress(values, keeps)), list(compress(tokens, keeps))
                if not tokens:
                    continue
            self.num_out += len(tokens)
            return values, tokens

    def _kept(self, count: int) -> tuple[list[Any], Sequence[Token], bool]:
        """Return the next elements that are in the cache, and whether the end follows."""
        values: list[Any] = []
        tokens: list[Token] = []
        started = self._clock_in()
        for number in range(self._next, self._next + count):
            entry = self._get(number)
            if entry is MISSING or entry is _END:
                break
            values.append(entry[0])
            tokens.append((number, entry[1]))
        self._clock_out(started)
        if entry is not MISSING:
            context.worker_info()  # the process that stored the element has read its share; do the same
        return values, tokens, not tokens and entry is _END

    def _computed(self) -> Block:
        """Return the next element of the input."""
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
            # Earlier elements were already returned from the cache. They were read only to reach this one.
            if number == self._next:
                return values, [(number, tokens[0])]

    def note_error(self) -> bool:
        """Record an error of the input; return False if its element was already returned from the cache."""
        if self._place < self._next:
            self._place += 1
            return False
        # From here on, numbers may differ from a pass without errors.
        if self._kept_to is None:
            self._kept_to = self._place
        return True

    def _end(self, number: int) -> None:
        """Record that the input has no element with this number."""
        if number < self._next:
            raise RuntimeError(
                f"{self.inputs[0].line} ended before element {self._next} of lane {self.run.lane}, which it "
                "has returned before: it must return the same elements in each pass"
            )
        if self._may_keep(number):
            self._cache.put(self._number_of(number), _END, self.run.num_lanes)

    def _put(self, number: int, value: Any, token: Token) -> Any:
        """Store an element if it is missing, and return it."""
        if not self._may_keep(number) or self._get(number) is not MISSING:
            return value
        return self._cache.put(self._number_of(number), (value, token), self.run.num_lanes)[0]

    def _number_of(self, number: int) -> int:
        """Return the number of an element among all lanes, which depends on the number of lanes."""
        return number * self.run.num_lanes + self.run.lane

    def _get(self, number: int) -> Any:
        if not self._may_keep(number):
            return MISSING
        return self._cache.get(self._number_of(number), self.run.num_lanes)

    def _may_keep(self, number: int) -> bool:
        return self._kept_to is None or number < self._kept_to

    def save_to(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the numbers of the next element and of the input's next element."""
        states.append({"next": self._next, "place": self._place, "kept_to": self._kept_to})
        self._input.save_to(states, [token for _, token in held])

    @property
    def is_settled(self) -> bool:
        """True: no sample is removed from the stages before a cache, so their state does not affect the elements."""
        return True

    def drop_from(self, states: Iterator[Any], keep: Keep) -> None:  # noqa: ARG002 - see below
        """Do nothing: excluded elements remain in the cache, and are removed from its output."""
        next(states)
        self._input.drop_from(states, lambda ids_of_elements: [True] * len(ids_of_elements))

    def load_from(self, states: Iterator[Any]) -> None:
        """Restore a saved state."""
        state = next(states)
        self._input.load_from(states)
        self._next, self._place, self._kept_to = state["next"], state["place"], state["kept_to"]

    def rebuild(self, tokens: Sequence[Token]) -> list[Any]:
        """Return these elements; the input computes missing ones."""
        cached = [self._get(number) for number, _ in tokens]
        missing = [token_of(token) for (_, token), kept in zip(tokens, cached, strict=True) if kept is MISSING]
        made = iter(self._input.rebuild(missing) if missing else ())
        return [next(made) if kept is MISSING else kept[0] for kept in cached]

    def sample_ids(self, tokens: Sequence[Token]) -> list[SampleIds]:
        """Return the ids of these elements, as the input returns them."""
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
    passes_elements: ClassVar[bool] = True
    keeps_places: ClassVar[bool] = True
    reader: ClassVar[Any] = CacheReader
    cache: Cache

    def _facts(self) -> Facts:
        return super()._facts()._replace(drawing=None)  # a cache keeps the order of epoch 0

    def outlined(self) -> tuple[type[StageNode], dict[str, Any]]:
        """Return the stage with a cache that stores nothing."""
        return type(self), {"cache": NoCache(None)}

    @property
    def keeps_order(self) -> bool:
        """False: the elements belong to epoch 0."""
        return False

    def order_line(self) -> str:
        """Return the stage without its folder."""
        return "cache()"

    def open(self, opening: LaneOpening, run: LaneRun, *, is_last: bool = False) -> LaneStage:  # noqa: ARG002
        """Open this stage and those before it in a lane."""

        def skip(skipped: Skipped) -> None:
            stage.note_error()
            assert run.skip is not None
            run.skip(skipped)

        before = run._replace(seed=SEED_KEPT, epoch=EPOCH_KEPT, skip=run.skip and skip, keep=None)
        stage = CacheStage(opening.open(self.input, before), self, run)
        return stage
