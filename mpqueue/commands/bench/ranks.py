"""``mpqueue bench --world``: how unequal the work of ranks is, and the gain from a `mpqueue.Balance`.

The samples are only divided by their costs, as a loader of each rank does. No sample is read, and no worker started.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from mpqueue.commands.frame import aligned
from mpqueue.plan.ids.history import NO_HISTORY
from mpqueue.plan.options.balance import Balance
from mpqueue.plan.options.options import LoaderOptions, Options
from mpqueue.plan.order.balanced import WindowOrder
from mpqueue.plan.order.resolve import resolve
from mpqueue.plan.position.cursors import FROM_BEGINNING, WorkItem
from mpqueue.system.units import count_text, share_text

_SETTINGS: Sequence[dict[str, Any]] = ({}, {"steps": 4}, {"group": 16})
_MOST_SAMPLES, _LEAST_STEPS = 1 << 20, 16  # of a large epoch: seconds, and one window of the largest setting
_NO_MORE = 0.01  # a smaller share of the time does not justify a larger window


class Inequality(NamedTuple):
    """The work of the ranks in an order.

    Attributes:
        order: "plain", or the arguments of a `mpqueue.Balance`.
        max_over_mean: The mean over the steps of (max / mean) of the ranks' costs.
        gain: The share of the time of the plain order that a step takes less.
    """

    order: str
    max_over_mean: float
    gain: float


class RankReport(NamedTuple):
    """The result of the command.

    Attributes:
        world: Number of ranks.
        batch_size: Number of samples of each rank in a step.
        steps: Number of steps.
        cost: Name of the costs.
        orders: The plain order and the settings.
        advice: The recommended option as code; None: the work is equal without it.
    """

    world: int
    batch_size: int
    steps: int
    cost: str
    orders: Sequence[Inequality]
    advice: str | None

    def lines(self, factory: str) -> list[str]:
        """Return the report.

        Args:
            factory: Name of the factory.
        """
        of_epoch = f"{count_text(self.steps, 'step')} of epoch 0, cost {self.cost}"
        rows = [["order", "max / mean", "less waiting"]]
        rows += [[one.order, f"{one.max_over_mean:.3f}", share_text(one.gain)] for one in self.orders]
        return [
            f"{factory}: {self.world} ranks with batches of {count_text(self.batch_size, 'sample')}, {of_epoch}",
            "",
            *aligned(rows, (False, True, True)),
            "",
            self.advice or "The work of the ranks is equal: they need no balance",
        ]


def compare(source: Any, cost: str, world: int, made: dict[str, Any]) -> RankReport:
    """Return how unequal the work of ranks is, in the plain order and with several settings.

    Args:
        source: The source of a `Loader`.
        cost: Name of a column of the source, or of its attribute.
        world: Number of ranks.
        made: Options of the `Loader`.

    Raises:
        TypeError: An option, or a cost, has the wrong type.
        ValueError: Options exclude each other, the source has no such costs, or one is invalid.
    """
    given, shown = _costs(source, cost)
    orders: list[Inequality] = []
    num_steps = 0
    for setting in _SETTINGS:
        balance = Balance(given, **setting)
        options = Options.of(LoaderOptions, made | {"shard": (0, world), "balance": balance}, "mpqueue bench")
        order = resolve(source, options, seed=made.get("seed", 0)).order
        assert isinstance(order, WindowOrder)
        most = max(_LEAST_STEPS, _MOST_SAMPLES // (world * made["batch_size"]))
        length = order.length()
        num_steps = most if length is None else min(most, length)
        deal = order.edit(NO_HISTORY)
        for position in range(0, num_steps, balance.window):
            deal(WorkItem(0, 0, position, position * world), FROM_BEGINNING)
        found = order.inequality()
        assert found is not None
        before, after = found
        orders = orders or [Inequality("plain", before, 0.0)]
        orders.append(Inequality(_code(setting) or "steps=1", after, 1 - after / before))
    return RankReport(world, made["batch_size"], num_steps, cost, orders, _advice(shown, orders))


def _costs(source: Any, name: str) -> tuple[Any, str]:
    """Return the cost of a `Balance`, and its code."""
    has_columns = hasattr(type(source), "column") or hasattr(source, "column_names")
    numbers = None if has_columns else getattr(source, name, None)
    if numbers is None or callable(numbers):  # a method, such as `map` of a dataset
        return name, f'"{name}"'
    return numbers, f"source.{name}"


def _code(setting: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in setting.items())


def _advice(cost: str, orders: Sequence[Inequality]) -> str | None:
    """Return the code of the smallest window that no other one exceeds."""
    most = max(one.gain for one in orders)
    (plain, *settings) = orders
    if most - plain.gain <= _NO_MORE:
        return None
    at = next(at for at, one in enumerate(settings) if most - one.gain <= _NO_MORE)
    return f"balance=mpqueue.Balance({', '.join(filter(None, (cost, _code(_SETTINGS[at]))))})"
