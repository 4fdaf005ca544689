"""The rules of a server: checks its mode and its other options. Pure."""

from dataclasses import dataclass
from typing import Any, Literal

from mpqueue.plan import checks
from mpqueue.service.modes import MODES, Mode, mode_of

Slow = Literal["wait", "skip", "detach"]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The checked options of a server.

    Attributes:
        mode: The mode, which decides which consumer gets which batch.
        window: Maximum number of batches offered to a consumer and not taken.
        slow: Treatment of a slow consumer.
        grace_s: Seconds to keep the seat of a crashed rank for another consumer.
        lease_timeout: Seconds without a message after which a consumer is detached; None for no limit.
        can_replay: The stream can compute a position again.
        is_ordered: The stream yields the positions of an epoch in order.
    """

    mode: Mode
    window: int = 10
    slow: Slow = "wait"
    grace_s: float = 60.0
    lease_timeout: float | None = None
    can_replay: bool = True
    is_ordered: bool = True


def check_rules(
    *, mode: Any, world: int | None, slow: Slow, grace_s: float, lease_timeout: float | None, window: int
) -> Rules:
    """Return the rules for options that `mpqueue.plan.options` has checked one by one.

    Raises:
        ValueError: The mode does not exist, or conflicts with another option.
    """
    checks.one_of(*MODES)("mode", mode)
    resolved = mode_of(mode, None if world is None else int(world))
    if slow in resolved.refused_slow:
        raise ValueError(resolved.refused_slow[slow])
    return Rules(
        mode=resolved,
        window=window,
        slow=slow,
        grace_s=float(grace_s),
        lease_timeout=None if lease_timeout is None else float(lease_timeout),
    )
