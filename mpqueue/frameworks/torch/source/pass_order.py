"""`PassOrder`: the order of a map-style dataset, as the sampler of a loader determines it."""

from mpqueue.frameworks.torch.source.samples import ids_of
from mpqueue.plan.ids.batch_info import SampleIds
from mpqueue.plan.order.drawn import DrawnOrder
from mpqueue.plan.position.cursors import WorkItem


class PassOrder(DrawnOrder):
    """The order of a map-style dataset, with batches drawn from torch's own iterator of the sampler."""

    def length(self, epoch: int | None = None) -> int | None:
        """Return None: torch's loader determines the length."""
        return None

    def samples_of(self, work_item: WorkItem) -> SampleIds:
        """Return the ids of the samples of a batch for a message."""
        assert work_item.listed is not None
        return ids_of(work_item.listed, is_batched=self.source.runs.parts.is_batched)
