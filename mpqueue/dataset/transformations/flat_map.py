"""The stage `flat_map` of a lane: the items of the iterable that a function returns for each element.

The iterable is read on demand, so it can be long, such as the lines of a file. The token of an item consists of the
token of its element and the item's index. A snapshot contains the current element and the index of its next item. To
resume, the function is called again for that element, and the earlier items are dropped.

Items of a list or another container of Python or NumPy already exist. No user code runs for them, and they are read at
once. Items of an iterator are seeded in blocks, as the samples of a `map` are (`mpqueue.worker.sample_block`), because
seeding one item alone costs 1.1 to 1.4 us. Dropping 750,000 items after a snapshot takes 0.02 s of CPU for a list, and
0.1 s for a generator. Seeding them one by one takes 1.7 s.
"""

import reprlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from types import GeneratorType
from typing import Any, ClassVar

import numpy as np

from mpqueue.dataset.description.ids import SampleIds
from mpqueue.dataset.description.nodes import Function, LinkNode, Traits
from mpqueue.dataset.lanes.applied import Applied
from mpqueue.dataset.lanes.gates import is_excluded
from mpqueue.dataset.lanes.stages import Block, LaneStage, Token, token_of
from mpqueue.seeding.seeds import NEXT_ITEM, WORD, position_of
from mpqueue.system.user_code.iterators import rest_of
from mpqueue.worker.concurrency.async_sources import plain_iterable
from mpqueue.worker.context import begin_block
from mpqueue.worker.failures import never_an_end, passes_at_once
from mpqueue.worker.runners.lanes import LaneRun

_STORED = {list, tuple, range, np.ndarray, deque}
_FEW, _DROPPED_AT_ONCE = 4, 64  # a block takes as long as a few items; dropped items may be large
_END = object()
_second = itemgetter(1)


class _ItemTokens(Sequence[Token]):
    """The tokens of consecutive items of one element, computed only if a random number is drawn."""

    def __init__(self, token: Token, first: int, count: int) -> None:
        self._token, self._first, self._count = token, first, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, at: Any) -> Token:
        return self._token, self._first + at


class _Items:
    """The items of one element, in order.

    Args:
        made: The iterable that the function returned.
        token: The token of the element.
        stage: The stage of the function.

    Attributes:
        token: The token of the element.
        index: The index of the next item.
    """

    def __init__(self, made: Any, token: Token, stage: LaneStage) -> None:
        self.token, self.index = token, 0
        self._is_stored, items = type(made) in _STORED, iter(made)
        # Blocks are read with `zip`. A generator, the common case, does not begin again there.
        self._items: Iterator[Any] = items if self._is_stored or isinstance(items, GeneratorType) else rest_of(items)
        self._run, self._seed = stage.run, stage.seed

    def read(self, count: int, out: list[Any]) -> bool:
        """Append up to ``count`` items to a list; return False if there were fewer.

        Raises:
            BaseException: The iterable raised instead of returning the next item. The items before it are in the list.
        """
        first = len(out)
        try:
            if self._is_stored:
                out.extend(islice(self._items, count))
            else:
                self._read_begun(count, out)
        finally:
            # After an error, too: the items before it are in the list, and the error belongs to the next item.
            self.index += len(out) - first
        return len(out) - first == count

    def _read_begun(self, count: int, out: list[Any]) -> None:
        """Read items, each with its own random numbers."""
        items, begin, seed, epoch, first = self._items, self._run.begin, self._seed, self._run.epoch, len(out)
        if count > _FEW:
            block = begin_block(begin, seed, epoch, range(count), _ItemTokens(self.token, self.index, count))
            if block is not None:
                try:
                    out.extend(map(_second, zip(block.samples, items, strict=False)))
                finally:
                    block.close()
        # All items, or those after an item that drew from shared generators, or those up to the end.
        position = position_of((self.token, self.index + len(out) - first))
        for _ in range(count - (len(out) - first)):
            begin(seed, epoch, position)  # before each item, because other samples may have been computed since
            item = next(items, _END)
            if item is _END:
                break
            out.append(item)
            position = (position + NEXT_ITEM) & WORD  # equals `position_of` of the next item, at a tenth of the cost

    def drop(self, count: int) -> list[Any]:
        """Drop up to ``count`` items, and return a list of the last one, or an empty list if there was none.

        Raises:
            BaseException: The iterable raised.
        """
        read: list[Any] = []
        while count > 0:
            del read[:-1]
            if not self.read(min(count, _DROPPED_AT_ONCE), read):
                break
            count -= _DROPPED_AT_ONCE
        return read[-1:]


class FlatMapStage(Applied):
    """The items of the iterables that a function returns for the elements.

    Args:
        source, node, run: See `LinkStage`.
    """

    node: "FlatMapNode"

    def __init__(self, source: LaneStage, node: "FlatMapNode", run: LaneRun) -> None:
        super().__init__(source, node, run)
        self._items: _Items | None = None  # items of the current element
        self._num_used = 0

    def most_fruitless(self) -> int | None:
        """Return the limit of the input, for the average number of items per element."""
        most = super().most_fruitless()
        return None if most is None else most * (1 + self.num_out // max(1, self._num_used))

    def pull(self, count: int) -> Block:
        """Return the next items, of as many elements as needed."""
        out: list[Any] = []
        tokens: list[Token] = []
        while len(out) < count:
            if self._error is not None and self._items is not None:  # raised by an item
                if out:
                    break
                error, items, self._error, self._items = self._error, self._items, None, None
                if not is_excluded(self.run.gate, self._input, items.token):
                    raise error
            if self._items is None and (self._error is not None or not self._tokens) and out:
                break  # an error of the input is raised by the next call
            # Count a fruitless search only if an element was opened for it.
            is_new = self._items is None
            if is_new and not self._open(count):
                break
            if self._items is not None:
                self._read(count, out, tokens)
            if out:
                self.search.end()
            elif is_new and self._error is None:
                self.search.note(self, 1)
        self.num_out += len(out)
        return out, tokens

    def _open(self, count: int) -> bool:
        """Call the function for the next element; return False at the end of the input."""
        if not self._tokens:
            num_elements = 1
            # Only here: the elements that later stages have read must follow from those that the lane has returned.
            if self._num_used and self.node.input.facts.flows:
                # Estimate the number of elements from the items per element so far.
                num_elements = max(1, min(count, count * self._num_used // (self.num_out + 1)))
            self._values, tokens = self._input.pull(num_elements)
            # Return here: `_take` would pull again, and each stage of a chain would pull twice from the one before. A
            # chain of 100 stages would make 2**100 calls.
            if not tokens:
                return False
            self._tokens = list(tokens)
            self.num_in += len(self._tokens)
        values, tokens = self._take(1)
        if not tokens:
            return False
        started = self.clock.start()
        try:
            self._items = self._items_of(values[0], tokens[0])
        except BaseException as error:
            if passes_at_once(error):
                raise
            self._keep(error, values, tokens)
        self._num_used += 1
        self.clock.stop(started)
        return True

    def _items_of(self, value: Any, token: Token) -> _Items:
        self.calls.begin(token)
        made = plain_iterable(self.node.function(value))
        if isinstance(made, str | bytes | Mapping) or not hasattr(type(made), "__iter__"):
            raise _no_items(self.line, made)
        return _Items(made, token, self)

    def _read(self, count: int, out: list[Any], tokens: list[Token]) -> None:
        """Read items of the current element until there are enough or none are left."""
        items = self._items
        assert items is not None
        started = self.clock.start()
        first = items.index
        try:
            if not items.read(count - len(out), out):
                self._items = None
        except BaseException as error:
            if passes_at_once(error):
                raise
            if self.calls.handles(error, (items.token, items.index)):
                self._items = None  # an error ends a generator, and other iterators are treated alike
            else:
                self._error = never_an_end(error)
        tokens.extend([(items.token, item_index) for item_index in range(first, items.index)])
        self.clock.stop(started)

    def get_state(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the waiting elements and the position of the next item."""
        items = self._items
        elements = [token for token, _ in held]
        if items is None:
            self._save_with(states, elements, {"token": None, "item": 0})
            return
        token = items.token
        if not any(element is token for element in elements):
            elements.append(token)
        self._save_with(states, elements, {"token": token, "item": items.index})

    def set_state(self, states: Iterator[Any]) -> None:
        """Restore a saved state; the earlier items of the current element are read again."""
        state = self._load_own(states)
        if state["token"] is not None:
            token = token_of(state["token"])
            (value,) = self._input.again([token])
            self._items = self._items_of(value, token)
            self._items.drop(state["item"])

    def again(self, tokens: Sequence[Token]) -> list[Any]:
        """Return these items. The function is called once for each element involved."""
        numbers_by_token: dict[Token, set[int]] = {}
        for token, item in tokens:
            numbers_by_token.setdefault(token, set()).add(item)
        items_by_token = {}
        for (token, item_indices), value in zip(
            numbers_by_token.items(), self._input.again(list(numbers_by_token)), strict=True
        ):
            items = self._items_of(value, token)
            # In ascending order, so that the items of an element are read only once.
            for item_index in sorted(item_indices):
                items.drop(item_index - items.index)
                made: list[Any] = []
                items.read(1, made)
                (items_by_token[token, item_index],) = made
        return [items_by_token[token] for token in tokens]

    def sample_ids(self, tokens: Sequence[Token]) -> list[SampleIds]:
        """Return the ids of the elements that the items belong to."""
        return self._input.sample_ids([token for token, _ in tokens])


def _no_items(line: str, result: Any) -> TypeError:
    """Return the error of a function that returned no iterable. Strings and dicts are rejected as likely mistakes."""
    if result is None:
        description = "None: did you forget `return`?"
    else:
        description = (
            f"{type(result).__name__}: {reprlib.repr(result)}. To return it as one element, return a list with it"
        )
    return TypeError(
        f"{line} must return an iterable of elements (a list, a generator) for each sample, got {description}"
    )


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class FlatMapNode(LinkNode):
    """The items of the iterables that a function returns for the elements.

    Attributes:
        function: A function that returns an iterable.
    """

    name: ClassVar[str] = "flat_map"
    traits: ClassVar[Traits] = Traits(flows=True, makes_stream=True, takes_apart=True)
    lane_stage: ClassVar[Any] = FlatMapStage
    function: Function
