"""The items of what a function makes of each element, one after the other: `flat_map`.

The function's iterable is read as its items are asked for, so that it may be long: the lines of a file. The token of an
item is that of the element with the item's number. A snapshot has the element that is at work and the number of its
next item: the function is called again for it, and its items are dropped up to there.

The items of a list, or of another container of Python's and NumPy's, are there already: no code of the user's runs for
them, and they are taken at once. Those of an iterator are begun in blocks, as the samples of a `map` are
(`mpqueue.worker.sample_block`), because to begin each alone costs 1.1 to 1.4 us. To drop 750,000 items behind a
snapshot took 1.7 s of CPU so; it takes 0.02 s of a list, and 0.1 s of a generator.
"""

import reprlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any

import numpy as np

from mpqueue.dataset.nodes import FlatMapNode
from mpqueue.dataset.stages import Applied, Block, LaneStage, Token, token_of
from mpqueue.seeding.seeds import NEXT_ITEM, WORD, place_of
from mpqueue.worker.context import begin_block
from mpqueue.worker.failures import never_an_end, passes_at_once
from mpqueue.worker.lanes import LaneRun

_STORED = {list, tuple, range, np.ndarray, deque}
_FEW, _DROPPED_AT_ONCE = 4, 64  # a block costs as much as a few items; what is dropped may be large
_END = object()
_second = itemgetter(1)


class _ItemTokens(Sequence[Token]):
    """The tokens of items of one element in a row, which nobody asks for unless something is drawn."""

    def __init__(self, token: Token, first: int, count: int) -> None:
        self._token, self._first, self._count = token, first, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, at: Any) -> Token:
        return self._token, self._first + at


class _Items:
    """The items of one element, in their order.

    Args:
        made: What the function has made of the element.
        token: Of the element.
        stage: Whose function it is.

    Attributes:
        token: As given.
        number: Of the next item.
    """

    def __init__(self, made: Any, token: Token, stage: LaneStage) -> None:
        self.token, self.number = token, 0
        self._items: Iterator[Any] = iter(made)
        self._is_stored = type(made) in _STORED
        self._run, self._seed = stage.run, stage.seed

    def read(self, count: int, out: list[Any]) -> bool:
        """Put so many items into a list; return False if there were not as many.

        Raises:
            BaseException: What the iterable raised in the place of the next item; those before it are in the list.
        """
        first = len(out)
        try:
            if self._is_stored:
                out.extend(islice(self._items, count))
            else:
                self._read_begun(count, out)
        finally:
            # Behind an error, too: those before it are in the list, and it is of the next one.
            self.number += len(out) - first
        return len(out) - first == count

    def _read_begun(self, count: int, out: list[Any]) -> None:
        """Read items, each with random numbers of its own."""
        items, begin, seed, epoch, first = self._items, self._run.begin, self._seed, self._run.epoch, len(out)
        if count > _FEW:
            block = begin_block(begin, seed, epoch, range(count), _ItemTokens(self.token, self.number, count))
            if block is not None:
                try:
                    out.extend(map(_second, zip(block.samples, items, strict=False)))
                finally:
                    block.close()
        # All of them, or those behind one that drew from generators that all share, or the end.
        place = place_of((self.token, self.number + len(out) - first))
        for _ in range(count - (len(out) - first)):
            begin(seed, epoch, place)  # before each: other samples were computed since the one before
            item = next(items, _END)
            if item is _END:
                break
            out.append(item)
            place = (place + NEXT_ITEM) & WORD  # which is that of the next item, at a tenth of the cost

    def drop(self, count: int) -> list[Any]:
        """Leave out so many items, or as many as there are, and return a list of the last one; empty if there is none.

        Raises:
            BaseException: What the iterable raised.
        """
        read: list[Any] = []
        while count > 0:
            del read[:-1]
            if not self.read(min(count, _DROPPED_AT_ONCE), read):
                break
            count -= _DROPPED_AT_ONCE
        return read[-1:]


class FlatMapStage(Applied):
    """The items of what a function returns for each element.

    Args:
        source, node, run: See `LinkStage`.
    """

    node: FlatMapNode

    def __init__(self, source: LaneStage, node: FlatMapNode, run: LaneRun) -> None:
        super().__init__(source, node, run)
        self._items: _Items | None = None  # of the element at work
        self._num_used = 0
        self._latest: list[Any] = []  # of a lane that was loaded: the item before the next one, until it is asked for

    def most_fruitless_behind(self) -> int | None:
        """Return how many items in a row may be of no use: as many as the elements have that may give none."""
        most = self.most_fruitless()
        return None if most is None else most * (1 + self.num_out // max(1, self._num_used))

    def pull(self, count: int) -> Block:
        """Return the next items, of as many elements as they need."""
        out: list[Any] = []
        tokens: list[Token] = []
        while len(out) < count:
            if self._error is not None and self._items is not None:  # of an item
                if out:
                    break
                error, self._error, self._items = self._error, None, None
                raise error
            if self._items is None and (self._error is not None or not self._tokens) and out:
                break  # what the input may raise is raised by the next call
            # A search has failed once more only if an element was opened for it.
            is_new = self._items is None
            if is_new and not self._open(count):
                break
            if self._items is not None:
                self._read(count, out, tokens)
            if out:
                self._num_fruitless = 0
            elif is_new and self._error is None:
                self._note_fruitless(1)
        self.num_out += len(out)
        return out, tokens

    def _open(self, count: int) -> bool:
        """Have the function make items of the next element; False: there is none."""
        self._latest = []  # nobody asks any more
        if not self._tokens:
            # As many elements as the items need, as far as those before them tell.
            ask = 1 if not self._num_used else max(1, min(count, count * self._num_used // (self.num_out + 1)))
            self._values, tokens = self._input.pull(ask)
            # `_take` would ask again. Each stage of a chain would ask the one before it twice: 2**100 calls for 100.
            if not tokens:
                return False
            self._tokens = list(tokens)
            self.num_in += len(self._tokens)
        values, tokens = self._take(1)
        if not tokens:
            return False
        started = self._clock_in()
        try:
            self._items = self._items_of(values[0], tokens[0])
        except BaseException as error:
            if passes_at_once(error):
                raise
            self._keep(error, values, tokens)
        self._num_used += 1
        self._clock_out(started)
        return True

    def _items_of(self, value: Any, token: Token) -> _Items:
        self.begin(token)
        made = self.node.function(value)
        if isinstance(made, str | bytes | Mapping) or not hasattr(type(made), "__iter__"):
            raise _no_items(self.line, made)
        return _Items(made, token, self)

    def _read(self, count: int, out: list[Any], tokens: list[Token]) -> None:
        """Read items of the element at work, until there are enough or none is left."""
        items = self._items
        assert items is not None
        started = self._clock_in()
        first = items.number
        try:
            if not items.read(count - len(out), out):
                self._items = None
        except BaseException as error:
            if passes_at_once(error):
                raise
            if self.leaves_out(error, (items.token, items.number)):
                self._items = None  # a generator has ended with its error, and others are treated like it
            else:
                self._error = never_an_end(error)
        tokens.extend([(items.token, number) for number in range(first, items.number)])
        self._clock_out(started)

    def save_to(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the elements that wait, and the item that is the next one."""
        items, opened = self._items, self._input.opened()
        elements = [token for token, _ in held]
        if items is None:
            self._save_with(states, elements, {"token": None, "item": 0})
            return
        token = items.token
        if not any(element is token for element in elements):
            elements.append(token)
        own = {"token": token, "item": items.number}
        # The token of stage n has the tokens of n - 1 stages in it. 2,000 stages wrote 2,000,000 numbers, in 7 s.
        if opened is not None and type(token) is tuple and token[0] is opened:
            own |= {"token": token[1], "is_of_opened": True}
        self._save_with(states, elements, own)

    def opened(self) -> Token | None:
        """Return the token of the element whose items are being read."""
        return None if self._items is None else self._items.token

    def take_latest(self, number: int) -> list[Any]:
        """Return the item with this number in a list, if it is the latest one of those that a load has made."""
        latest, self._latest = self._latest, []
        return latest if self._items is not None and number == self._items.number - 1 else []

    def load_from(self, states: Iterator[Any]) -> None:
        """Go to where this was saved; the items before it are made again."""
        state = self._load_own(states)
        if state["token"] is not None:
            token = token_of(state["token"])
            found: list[Any] = []
            if state.get("is_of_opened"):  # states of earlier versions have all of the token
                # The input has just made that item. To have each stage of a chain made anew by all before it took 17 s
                # for 1,000 stages, and grew with the cube of their number.
                found = self._input.take_latest(token)
                token = self._input.opened(), token
            (value,) = found or self._input.rebuild([token])
            self._items = self._items_of(value, token)
            self._latest = self._items.drop(state["item"])

    def rebuild(self, tokens: Sequence[Token]) -> list[Any]:
        """Return these items: the function is called once for each element that one is of."""
        wanted: dict[Token, set[int]] = {}
        for token, item in tokens:
            wanted.setdefault(token, set()).add(item)
        found = {}
        for (token, numbers), value in zip(wanted.items(), self._input.rebuild(list(wanted)), strict=True):
            items = self._items_of(value, token)
            # Ascending, so that the items of an element are read through once.
            for number in sorted(numbers):
                items.drop(number - items.number)
                made: list[Any] = []
                items.read(1, made)
                (found[token, number],) = made
        return [found[token] for token in tokens]


def _no_items(line: str, got: Any) -> TypeError:
    """Return the error of a function that made no iterable; text and a dict are none that anybody means."""
    if got is None:
        what = "None: did you forget `return`?"
    else:
        what = f"{type(got).__name__}: {reprlib.repr(got)}. To give that as one element, return it in a list"
    return TypeError(f"{line} must return an iterable of elements (a list, a generator) for each sample, got {what}")
