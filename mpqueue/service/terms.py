"""The terms of a consumer: the arguments of `mpqueue.attach`, checked."""

import os
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, Literal

from mpqueue.engine.options import check_flags, check_trace
from mpqueue.service.greeting import Join
from mpqueue.service.home import Home
from mpqueue.telemetry.monitor.registry import is_asked_for


@dataclass(frozen=True, kw_only=True)
class AttachTerms:
    """The terms of a consumer; see `mpqueue.attach`.

    Attributes:
        home: Where the server lives.
        is_shown: `mpqueue top` is to see the consumer.

    Raises:
        TypeError: An option has the wrong type.
        ValueError: The name, or an option, has an impossible value.
    """

    name: str
    rank: int | None
    timeout: float | None
    uid: int | None
    join: Join
    reconnect: bool
    writable: Literal[False, "copy"]
    allow_pickle: bool | None
    monitor: bool = False
    trace: str | os.PathLike[str] | None = None
    home: Home = field(init=False)
    is_shown: bool = field(init=False)

    def __post_init__(self) -> None:
        _check(self.rank, self.timeout, self.join, self.writable)
        check_flags(reconnect=self.reconnect, monitor=self.monitor)
        if self.allow_pickle is not None:
            check_flags(allow_pickle=self.allow_pickle)
        check_trace(self.trace)
        object.__setattr__(self, "home", Home.of(self.name, self.uid))
        object.__setattr__(self, "is_shown", bool(self.monitor) or is_asked_for())


def _check(rank: Any, timeout: Any, join: Any, writable: Any) -> None:
    if rank is not None and (isinstance(rank, bool) or not isinstance(rank, Integral)):
        raise TypeError(f"rank must be an integer or None, got {rank!r}")
    if rank is not None and rank < 0:
        raise ValueError(f"rank must be 0 or more, got {rank!r}")
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, Real)):
        raise TypeError(f"timeout must be a number of seconds or None, got {timeout!r}")
    if timeout is not None and not float(timeout) >= 0:
        raise ValueError(f"timeout must be a number of seconds from 0 on, or None, got {timeout!r}")
    if join not in {"next", "now", "replay"}:
        raise ValueError(f'join must be "next", "now" or "replay", got {join!r}')
    if writable is not False and writable != "copy":
        raise ValueError(f'writable must be False or "copy" (other consumers read the same memory), got {writable!r}')
