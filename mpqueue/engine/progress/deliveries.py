"""Batches that have left the order and are not with their user.

    count --> `Progress.deliveries` --> returned     a prefetcher, a look at the first batches, a batch that is pinned
                  |
                  +--> dropped                       a restart, an exclusion, new weights, a loaded state

The pipeline adds a delivery. The frontend has its batch, and checks that the delivery is still in the tuple before it
passes the batch on. It takes the delivery out as its last step, by one assignment, after all work on the batch. A saved
state starts before all deliveries. Dropped batches are computed again.
"""

from typing import Any, TypeAlias

from mpqueue.plan.position.cursors import WorkItem

# The work item of a batch, the epoch and the position of the consumer after it, and the last work item with samples
# that were skipped (`Skips.latest`). A plain tuple, because one is made for each batch.
Record: TypeAlias = tuple[WorkItem, int, int, Any]


class Delivery:
    """A batch that was counted for a front end, or an error instead.

    Attributes:
        record: See `Record`.
        error: The error; None: it is a batch.
        is_lent: A framework has taken it ahead of use, and cannot give it back: a change of the run begins after it.
    """

    __slots__ = ("error", "is_lent", "record")

    def __init__(self, record: Record, error: BaseException | None = None) -> None:
        self.record, self.error, self.is_lent = record, error, False
