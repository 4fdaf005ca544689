"""The elements in a queue, and which of them leaves next.

What a signal handler raises may strike at a call's end, see NOTE [ Interrupts ] in `core`. So a token is moved by steps
of the language alone (``+=``, ``del``), which also drain an iterator without a look at signals: wherever it strikes, a
token is in one place.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import repeat, starmap
from random import Random
from typing import Any, Protocol, TypeAlias

Token: TypeAlias = Any
"""An element as the machine sees it: a reference, a place in memory, anything that a storage can follow."""


class Order(Protocol):
    """Holds the tokens of a queue for the machine, which alone calls it."""

    def __len__(self) -> int:
        """Number of tokens held."""

    def __iter__(self) -> Iterator[Token]:
        """The tokens held."""

    def add(self, tokens: Iterable[Token]) -> None:
        """Take in tokens that were enqueued."""

    def move(self, count: int, taken: list[Token]) -> None:
        """Move ``count`` tokens to the end of ``taken``; there are as many."""

    def put_back(self, taken: list[Token]) -> None:
        """Move back what `move` gave, as if it had not been taken."""


class FirstInFirstOut:
    """The token that came first leaves first."""

    def __init__(self) -> None:
        self._tokens: deque[Token] = deque()

    def __len__(self) -> int:
        return len(self._tokens)

    def __iter__(self) -> Iterator[Token]:
        return iter(self._tokens)

    def add(self, tokens: Iterable[Token]) -> None:
        """Append them at the end."""
        self._tokens += tokens

    def move(self, count: int, taken: list[Token]) -> None:
        """Take them from the front."""
        taken += starmap(self._tokens.popleft, repeat((), count))  # half the time of a loop

    def put_back(self, taken: list[Token]) -> None:
        """Put them before the front, in their order."""
        [*map(self._tokens.appendleft, starmap(taken.pop, repeat((), len(taken))))]  # the last one first, in one step


class RandomOrder:
    """Every token is as likely as any other to leave next: it changes places with the last one, which is popped.

    Args:
        seed: Makes the order a function of the calls; None: a new order every time.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._tokens: list[Token] = []
        # 53 random bits for a choice among n: the chances differ by n / 2**53, nothing against n below 2**32.
        self._random = Random(seed).random

    def __len__(self) -> int:
        return len(self._tokens)

    def __iter__(self) -> Iterator[Token]:
        return iter(self._tokens)

    def add(self, tokens: Iterable[Token]) -> None:
        """Append them: places mean nothing."""
        self._tokens += tokens

    def move(self, count: int, taken: list[Token]) -> None:
        """One random choice after the other."""
        tokens, random = self._tokens, self._random
        for _ in range(count):
            place = int(random() * len(tokens))
            taken += (tokens[place],)
            tokens[place] = tokens[-1]
            del tokens[-1]

    def put_back(self, taken: list[Token]) -> None:
        """Append them."""
        self._tokens += taken
        del taken[:]
