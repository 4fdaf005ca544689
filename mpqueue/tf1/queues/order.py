"""The elements in a queue, and which of them leaves next."""

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

    def take(self, count: int) -> list[Token]:
        """Give out ``count`` tokens; there are as many."""

    def put_back(self, tokens: list[Token]) -> None:
        """Take back what `take` gave, as if it had not been taken."""


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
        self._tokens.extend(tokens)

    def take(self, count: int) -> list[Token]:
        """Take them from the front."""
        return list(starmap(self._tokens.popleft, repeat((), count)))  # half the time of a loop

    def put_back(self, tokens: list[Token]) -> None:
        """Put them before the front, in their order."""
        self._tokens.extendleft(reversed(tokens))


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
        self._tokens.extend(tokens)

    def take(self, count: int) -> list[Token]:
        """One random choice after the other."""
        tokens, random, out = self._tokens, self._random, []
        for _ in range(count):
            place = int(random() * len(tokens))
            out.append(tokens[place])
            tokens[place] = tokens[-1]
            tokens.pop()
        return out

    def put_back(self, tokens: list[Token]) -> None:
        """Append them."""
        self._tokens.extend(tokens)
