"""The option `ray_options` of all frontends. It is checked before anything starts, and without importing Ray."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any, Self

from mpqueue.system.user_code.extras import is_installed

_STRATEGIES = ("NodeAffinitySchedulingStrategy", "PlacementGroupSchedulingStrategy")
DEADLINE_S = 30.0
# Probes of the connection are sent at a third of the deadline, and the kernel accepts at most 32,767 s for that.
_MOST_DEADLINE_S = 86_400


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """The keys of `ray_options`.

    Attributes:
        num_cpus: Number of CPUs that Ray counts for each worker; None: 1, or less on nodes with too few CPUs.
        resources: Other resources of each worker, by name. Only nodes with these resources get workers.
        scheduling_strategy: "DEFAULT" or "SPREAD": evenly over all nodes. A ``NodeAffinitySchedulingStrategy``: on
            that node. A ``PlacementGroupSchedulingStrategy``: on the nodes of its bundles.
        runtime_env: The environment of the workers, which Ray creates on each node, including the trainer's.
        deadline_s: Time in seconds after which a silent node is considered lost. A lower value detects a broken
            connection sooner; a higher one tolerates a node that is stopped for a while.

    Raises:
        TypeError: A key has the wrong type.
        ValueError: A key has an invalid value.
    """

    num_cpus: float | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    scheduling_strategy: Any = None
    runtime_env: Mapping[str, Any] | None = None
    deadline_s: float = DEADLINE_S

    def __post_init__(self) -> None:
        if self.num_cpus is not None:
            _check_number("num_cpus", self.num_cpus)
        _check_number("deadline_s", self.deadline_s)
        if not 0 < self.deadline_s <= _MOST_DEADLINE_S:
            raise ValueError(
                f"ray_options: deadline_s must be a number of seconds above 0 and at most {_MOST_DEADLINE_S} (a day), "
                f"got {self.deadline_s!r}"
            )
        _check_resources(self.resources)
        _check_strategy(self.scheduling_strategy)
        if self.runtime_env is not None and not isinstance(self.runtime_env, Mapping):
            raise TypeError(f"ray_options: runtime_env must be a dict or None, got {self.runtime_env!r}")

    @classmethod
    def of(cls, options: Any) -> Self:
        """Return the options in a mapping; None: all defaults.

        Raises:
            TypeError: The argument is not a mapping, or a key has the wrong type.
            ValueError: A key does not exist or has an invalid value.
        """
        if options is None:
            return cls()
        if not isinstance(options, Mapping):
            raise TypeError(f"ray_options must be a dict or None, got {options!r}")
        known = [key.name for key in fields(cls)]
        for key in options:
            if key not in known:
                raise ValueError(f"ray_options has no key {key!r}: its keys are {', '.join(known)}")
        return cls(**options)


def check_installed() -> None:
    """Raise an `ImportError` if Ray is not installed."""
    if not is_installed("ray"):
        raise ImportError('mpqueue.backends.ray needs Ray: pip install "mpqueue[ray]"', name="ray")


def _check_number(name: str, value: Any) -> None:
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number:
        raise TypeError(f"ray_options: {name} must be a number, got {value!r}")
    if not 0 <= value <= sys.float_info.max:  # also refuses NaN, and an integer that no float can hold
        raise ValueError(f"ray_options: {name} must be a finite number, 0 or more, got {value!r}")


def _check_resources(resources: Any) -> None:
    if not isinstance(resources, Mapping):
        raise TypeError(f"ray_options: resources must be a dict of numbers by name, got {resources!r}")
    for name, amount in resources.items():
        if not isinstance(name, str):
            raise TypeError(f"ray_options: the names in resources must be strings, got {name!r}")
        if name == "CPU":
            raise ValueError('ray_options: resources must not contain "CPU": pass num_cpus instead')
        _check_number(f"resources[{name!r}]", amount)


def _check_strategy(strategy: Any) -> None:
    if strategy is None or (isinstance(strategy, str) and strategy in ("DEFAULT", "SPREAD")):
        return
    known = f'"DEFAULT", "SPREAD", a {" or a ".join(_STRATEGIES)}'
    if isinstance(strategy, str):
        raise ValueError(  # noqa: TRY004 - a string is a valid type
            f"ray_options: scheduling_strategy must be {known}, got {strategy!r}"
        )
    kind = type(strategy)
    if kind.__name__ not in _STRATEGIES or not kind.__module__.startswith("ray."):
        raise TypeError(f"ray_options: scheduling_strategy must be {known}, got {strategy!r}")
