"""The items of what a function makes of each element, one after the other: `flat_map`.

The function's iterable is read as its items are asked for, so that it may be long: the lines of a file. The token of an
item is that of the element with the item's number. A snapshot has the element that is at work and the number of its
next item: the function is called again for it, and its items are dropped up to there.
"""

import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mpqueue.dataset.stages import Applied, Block, LaneStage, Token, passes_at_once, raisable, token_of
from mpqueue.engine.seeds import NEXT_ITEM, WORD, place_of
from mpqueue.worker.lanes import LaneRun


class FlatMapStage(Applied):
    """The items of what a function returns for each element.

    Args:
        source, function, run, number, line: See `Applied`.
    """

    def __init__(self, source: LaneStage, function: Callable[[Any], Any], run: LaneRun, number: int, line: str) -> None:
        super().__init__(source, function, run, number, line)
        self._items: Iterator[Any] | None = None  # of the element at work,
        self._token: Token = None  # whose token this is,
        self._item = 0  # and the number of its next item
        self._num_used = 0

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
            if self._items is None and not self._open(count):
                break
            if self._items is not None:
                self._read(count, out, tokens)
        self.num_out += len(out)
        return out, tokens

    def _open(self, count: int) -> bool:
        """Have the function make items of the next element; False: there is none."""
        if not self._tokens:
            # As many elements as the items need, as far as those before them tell.
            ask = 1 if not self._num_used else max(1, min(count, count * self._num_used // (self.num_out + 1)))
            self._values, tokens = self._input.pull(ask)
            self._tokens = list(tokens)
            self.num_in += len(self._tokens)
        values, tokens = self._take(1)
        if not tokens:
            return False
        started = self._clock_in()
        try:
            self._items, self._token, self._item = self._items_of(values[0], tokens[0]), tokens[0], 0
        except BaseException as error:
            if passes_at_once(error):
                raise
            self._keep(error, values, tokens)
        self._num_used += 1
        self._clock_out(started)
        return True

    def _items_of(self, value: Any, token: Token) -> Iterator[Any]:
        self.begin(token)
        made = self._function(value)
        if isinstance(made, str | bytes | Mapping) or not hasattr(type(made), "__iter__"):
            raise _no_items(self.line, made)
        return iter(made)

    def _read(self, count: int, out: list[Any], tokens: list[Token]) -> None:
        """Read items of the element at work, until there are enough or none is left."""
        assert self._items is not None
        started = self._clock_in()
        items, token, item = self._items, self._token, self._item
        begin, seed, epoch, place = self.run.begin, self.seed, self.run.epoch, place_of((token, item))
        try:
            while len(out) < count:
                begin(seed, epoch, place)  # before each: other samples were computed since the one before
                out.append(next(items))
                tokens.append((token, item))
                item += 1
                place = (place + NEXT_ITEM) & WORD  # which is that of the next item, at a tenth of the cost
        except StopIteration:
            self._items = None
        except BaseException as error:
            if passes_at_once(error):
                raise
            if self.leaves_out(error, (token, item)):
                self._items = None  # a generator has ended with its error, and others are treated like it
            else:
                self._error = raisable(error)
        self._item = item
        self._clock_out(started)

    def save(self, held: Sequence[Token] = ()) -> Any:
        """Return the state of the input, the elements that wait, and the item that is the next one."""
        is_open = self._items is not None
        state = super().save([token for token, _ in held] + ([self._token] if is_open else []))
        return state | {"token": self._token if is_open else None, "item": self._item}

    def load(self, state: Any) -> None:
        """Go to where this was saved; the items before it are made again."""
        super().load(state)
        if state["token"] is not None:
            self._token, self._item = token_of(state["token"]), state["item"]
            (value,) = self._input.rebuild([self._token])
            self._items = self._items_of(value, self._token)
            for item in range(self._item):
                self.begin((self._token, item))
                next(self._items, None)

    def rebuild(self, tokens: Sequence[Token]) -> list[Any]:
        """Return these items: the function is called once for each element that one is of."""
        wanted: dict[Token, set[int]] = {}
        for token, item in tokens:
            wanted.setdefault(token, set()).add(item)
        found = {}
        for (token, numbers), value in zip(wanted.items(), self._input.rebuild(list(wanted)), strict=True):
            items = self._items_of(value, token)
            for item in range(max(numbers) + 1):
                self.begin((token, item))
                made = next(items)
                if item in numbers:
                    found[token, item] = made
        return [found[token] for token in tokens]


def _no_items(line: str, got: Any) -> TypeError:
    """Return the error of a function that made no iterable; text and a dict are none that anybody means."""
    if got is None:
        what = "None: did you forget `return`?"
    else:
        what = f"{type(got).__name__}: {reprlib.repr(got)}. To give that as one element, return it in a list"
    return TypeError(f"{line} must return an iterable of elements (a list, a generator) for each sample, got {what}")
