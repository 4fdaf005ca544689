"""The rules of a server: its mode and its other options. Pure."""

from dataclasses import dataclass

from mpqueue.plan.options.options import Slow
from mpqueue.service.routing.modes import Mode


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The checked options of a server.

    Attributes:
        mode: The mode, which decides which consumer gets which batch.
        window: Maximum number of batches offered to a consumer and not taken.
        slow: Treatment of a slow consumer.
        grace_s: Seconds to keep the seat of a crashed rank for another consumer.
        lease_timeout: Seconds without a message after which a consumer is detached; None for no limit.
        is_ordered: The stream yields the positions of an epoch in order.

    Raises:
        ValueError: The mode does not support this treatment of a slow consumer.
    """

    mode: Mode
    window: int = 10
    slow: Slow = "wait"
    grace_s: float = 300.0
    lease_timeout: float | None = None
    is_ordered: bool = True

    def __post_init__(self) -> None:
        if self.slow != "wait" and not self.mode.allows_slow:
            raise ValueError(
                f'slow="{self.slow}" requires mode="broadcast", got mode="{self.mode.name}": leave it out, or use '
                "lease_timeout=SECONDS to detach consumers that send no requests"
            )
