"""Balanced ranks: the samples of a window of batches, divided among these batches by their costs.

A *window* is what all ranks return in some rounds: consecutive batches of their order. It has only whole batches. The
end of the epoch, which is short or filled up, is not changed. Other ranks continue an epoch only where a window ended.
"""

from typing import Any, NamedTuple

import numpy as np
from model.numbers import mixed_numbers

from mpqueue.plan.order.balancing import divide


class Balance(NamedTuple):
    """How samples are divided.

    Attributes:
        cost: A function of the id of a sample.
        tokens: Another function, or None.
        count: The number of samples, if the product gets arrays; 0: it gets functions.
    """

    cost: Any
    tokens: Any = None
    steps: int = 1
    accumulate: int = 1
    group: int | None = None
    count: int = 0

    @property
    def rounds(self):
        """Return the number of rounds of a window."""
        return self.accumulate * (self.group or self.steps)

    def code(self):
        """Return the expression that makes it with the product."""
        cost, tokens = [each if each is None or not self.count else Listing(each, self.count) for each in self[:2]]
        given = {"tokens": tokens, "steps": self.steps, "accumulate": self.accumulate, "group": self.group}
        text = "".join(f", {name}={value!r}" for name, value in given.items() if value != self._field_defaults[name])
        return f"mpqueue.Balance({cost!r}{text})"


class Listing(NamedTuple):
    """An array of the costs of all samples, as code."""

    cost: Any
    count: int

    def __repr__(self):
        return f"np.array({[self.cost(each) for each in range(self.count)]!r})"


class Began(NamedTuple):
    """Where ranks began an epoch: at batch ``start`` of all ranks."""

    start: int = 0
    world: int = 1


class Windows:
    """The windows of ranks in an epoch.

    Args:
        order: The plain order, a `model.orders.Index`.
        began: Where the ranks began.
    """

    def __init__(self, order, began):
        self._order, self.began, self._balance = order, began, order.balance
        self._divided = {}

    def _window_of(self, position):
        """Return the index of the window of a batch."""
        return (position - self.began.start) // (self._balance.rounds * self.began.world)

    def untouched(self, rounds):
        """Return the position of the first batch after all windows that ``rounds`` rounds have started."""
        return self.began.start + -(-rounds // self._balance.rounds) * self._balance.rounds * self.began.world

    def _batches(self, window):
        """Return the whole batches of a window."""
        began, size = self.began, self._balance.rounds * self.began.world
        turns = self._order.turns(began.start)
        end = (window + 1) * size if turns is None else min((window + 1) * size, turns * began.world)
        found = range(began.start + window * size, began.start + end)
        return [each for each in found if self._order.is_whole(each)]

    def positions(self, position):
        """Return the places of the samples of a batch, ascending."""
        window = self._window_of(position)
        if window not in self._divided:
            batches = self._batches(window)
            undivided = {each: self._order.plain(each) for each in batches}
            self._divided[window] = self._divide(window, undivided) if batches else {}
        found = self._divided[window].get(position)
        return self._order.plain(position) if found is None else found

    def _divide(self, window, undivided):
        """Return the places of each batch."""
        order, balance, numbers = self._order, self._balance, list(undivided)
        positions = sorted(position for each in undivided.values() for position in each)
        costs = {position: order.cost(position, balance.cost) for position in positions}
        of_step, size = balance.accumulate * self.began.world, len(positions) // len(numbers)
        if balance.group is None:
            batches = sorted(self._bins(positions, len(numbers), costs), key=lambda batch: -sum(map(costs.get, batch)))
        else:
            positions.sort(key=lambda position: -costs[position])  # of equal costs, the first place is first
            steps = [positions[first : first + of_step * size] for first in range(0, len(positions), of_step * size)]
            batches = [batch for step in steps for batch in self._bins(sorted(step), len(step) // size, costs)]
        whole = len(numbers) // of_step * of_step
        parts = (batches[:whole], of_step), (batches[whole:], len(numbers) - whole)
        found = [batch for part in parts if part[0] for batch in self._shuffled(window, *part)]
        return dict(zip(numbers, found, strict=True))

    @staticmethod
    def _bins(positions, count, costs):
        """Divide places, which ascend, among a number of batches."""
        (bins,) = divide(np.array([[costs[position] for position in positions]], np.int64), count)
        return [sorted(positions[at] for at in each) for each in bins.tolist()]

    def _shuffled(self, window, batches, of_step):
        """Return the batches of each step in a random order, and the steps, too."""
        count, steps = len(batches), []
        words = mixed_numbers(*self._order.key, np.arange(window * count, (window + 1) * count)).tolist()
        for first in range(0, count, of_step):
            drawn, step = words[first : first + of_step], batches[first : first + of_step]
            steps.append((drawn[0], [batch for _, batch in sorted(zip(drawn, step, strict=True))]))
        return [batch for _, step in sorted(steps) for batch in step]
