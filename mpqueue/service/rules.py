"""The rules of a server: checks its mode and its other options. Pure."""

from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

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


def check_rules(*, mode: Any, world: Any, slow: Any, grace_s: Any, lease_timeout: Any, window: int) -> Rules:
    """Return the checked options of a server.

    Raises:
        TypeError: An option has the wrong type.
        ValueError: An option has an invalid value or conflicts with another option.
    """
    if mode not in MODES:
        known = " or ".join(f'"{name}"' for name in MODES)
        raise ValueError(f"mode must be {known}, got {mode!r}")
    if slow not in {"wait", "skip", "detach"}:
        raise ValueError(f'slow must be "wait", "skip" or "detach", got {slow!r}')
    if world is not None and (not hasattr(world, "__index__") or isinstance(world, bool)):
        raise TypeError(f"world must be an integer or None, got {world!r}")
    if world is not None and world < 1:
        raise ValueError(f"world must be 1 or more, or None, got {world!r}")
    # Only after the checks of `world`, which selects the class of the mode.
    resolved = mode_of(mode, None if world is None else int(world))
    if slow in resolved.refused_slow:
        raise ValueError(resolved.refused_slow[slow])
    check_seconds("grace_s", grace_s, may_be_none=False)
    check_seconds("lease_timeout", lease_timeout, may_be_none=True)
    return Rules(
        mode=resolved,
        window=window,
        slow=slow,
        grace_s=float(grace_s),
        lease_timeout=None if lease_timeout is None else float(lease_timeout),
    )


def check_seconds(name: str, value: Any, *, may_be_none: bool) -> None:
    """Raise a `TypeError` or a `ValueError` if an option is not a number of seconds."""
    if value is None and may_be_none:
        return
    expected = "a number of seconds" + (" or None" if may_be_none else "")
    # `bool` is a subclass of `int`, but `timeout=True` is a mistake.
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be {expected}, got {value!r}")
    # Written as a negation, so that NaN is refused, too.
    if not float(value) >= 0:
        raise ValueError(f"{name} must be {expected}, 0 or more, got {value!r}")
