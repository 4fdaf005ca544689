"""The rules by which a server deals. Pure."""

from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

Slow = Literal["wait", "skip", "detach"]


class Refused(Exception):
    """The consumer may not attach; the text says why."""


class Occupied(Exception):
    """The rank has a consumer: another may attach when that is gone."""


class Misbehaved(Exception):
    """A consumer has sent what none of ours would."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The rules of a server.

    Attributes:
        mode: "split": each batch to one consumer; "broadcast": each to all.
        world: The number of ranks ("split"), or of consumers that the first epoch waits for ("broadcast"); None: no
            ranks, and nobody is waited for.
        window: The batches that a consumer is offered and has not taken, at most.
        slow: What happens to a consumer that is slow.
        grace_s: Seconds for which the seat of a dead rank waits for another consumer.
        lease_timeout: Seconds after which a consumer that says nothing is detached; None: never.
        can_replay: The stream can compute a position again.
        is_ordered: The stream gives the positions of an epoch in their order.
    """

    mode: Literal["split", "broadcast"]
    world: int | None = None
    window: int = 10
    slow: Slow = "wait"
    grace_s: float = 60.0
    lease_timeout: float | None = None
    can_replay: bool = True
    is_ordered: bool = True

    @property
    def is_ranked(self) -> bool:
        """True if each batch belongs to a rank."""
        return self.mode == "split" and self.world is not None


def check_rules(*, mode: Any, world: Any, slow: Any, grace_s: Any, lease_timeout: Any, window: int) -> Rules:
    """Return the rules of a server's options.

    Raises:
        TypeError: An option has the wrong type.
        ValueError: An option has an impossible value, or one that excludes another.
    """
    if mode not in {"split", "broadcast"}:
        raise ValueError(f'mode must be "split" or "broadcast", got {mode!r}')
    if slow not in {"wait", "skip", "detach"}:
        raise ValueError(f'slow must be "wait", "skip" or "detach", got {slow!r}')
    if world is not None and (not hasattr(world, "__index__") or isinstance(world, bool)):
        raise TypeError(f"world must be a number of consumers or None, got {world!r}")
    if world is not None and world < 1:
        raise ValueError(f"world must be 1 or more, or None, got {world!r}")
    if slow == "skip" and mode == "split":
        raise ValueError('slow="skip" leaves out what others have: it is for mode="broadcast"')
    if slow == "detach" and mode == "split":
        raise ValueError(
            'slow="detach" is for mode="broadcast". With "split" nobody waits for a slow consumer: without ranks the '
            "others get what it does not ask for, and each rank has batches that nobody else gets. One that says "
            "nothing is detached by lease_timeout=SECONDS"
        )
    check_seconds("grace_s", grace_s, may_be_none=False)
    check_seconds("lease_timeout", lease_timeout, may_be_none=True)
    return Rules(
        mode=mode,
        world=None if world is None else int(world),
        window=window,
        slow=slow,
        grace_s=float(grace_s),
        lease_timeout=None if lease_timeout is None else float(lease_timeout),
    )


def check_seconds(name: str, value: Any, *, may_be_none: bool) -> None:
    """Raise a `TypeError` or a `ValueError` if an option is no number of seconds."""
    if value is None and may_be_none:
        return
    what = "a number of seconds" + (" or None" if may_be_none else "")
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be {what}, got {value!r}")
    if not float(value) >= 0:
        raise ValueError(f"{name} must be {what}, 0 or more, got {value!r}")
