"""A plan: the inputs of a run, before anything is started.

A plan is immutable. `Plan.cursor` makes the mutable part of a run, which deals work items. The run's `Draws` keep the
indices that were drawn from a sampler.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from mpqueue.plan.ids.history import NO_HISTORY, History
from mpqueue.plan.options.backend_kinds import BackendName
from mpqueue.plan.options.batching import Batching, RunnerKind
from mpqueue.plan.options.options import Options
from mpqueue.plan.order.orders import Order
from mpqueue.plan.position.cursors import Cursor, Edit
from mpqueue.plan.sources.sources import Source

if TYPE_CHECKING:
    from mpqueue.plan.position.drawn_cursor import DrawsEpochs


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """A source and its options, resolved, and the changes of a run.

    Attributes:
        order: The batches of the source, in their order.
        seed_given: The user passed the seed; then batches computed by the caller use it, too.
        calls_hooks: The run calls the source's ``on_epoch_end``; False: a fit loop calls it.
        history: The seeks, exclusions and changes of weights of the run.
    """

    order: Order
    seed_given: bool = False
    calls_hooks: bool = True
    history: History = NO_HISTORY

    @property
    def source(self) -> Source:
        """The source."""
        return self.order.source

    @property
    def options(self) -> Options:
        """The options about samples and ranks."""
        return self.order.options

    @property
    def seed(self) -> int:
        """The seed of shuffled orders and random numbers."""
        return self.order.seed

    @property
    def batching(self) -> Batching | None:
        """How samples become batches; None: items are batches."""
        return self.order.batching

    @property
    def has_index(self) -> bool:
        """True if each batch has an index and can be computed independently of the others."""
        return self.order.has_index

    @property
    def ends_by_count(self) -> bool:
        """True if an epoch of a stream ends after a number of batches, and the next one continues there."""
        return self.order.epoch_batches is not None

    @property
    def form(self) -> RunnerKind:
        """How workers run the source."""
        return self.source.form(self.batching)

    @property
    def skips(self) -> bool:
        """True if samples (or batches) that raise are skipped."""
        return bool(self.options.on_error == "skip")

    @property
    def epoch_end(self) -> Callable[[], Any] | None:
        """The source's own ``on_epoch_end``: no work item of the next epoch is dealt before it was called."""
        return self.source.epoch_end() if self.calls_hooks else None

    def with_seed(self, seed: int, *, given: bool = True) -> Self:
        """Return the same plan with another seed."""
        return replace(self, order=self.order.renewed(seed), seed_given=given)

    def with_history(self, history: History) -> Self:
        """Return the same plan with another history."""
        return replace(self, history=history)

    def renewed(self) -> Self:
        """Return the same plan without lengths that it keeps, for a loop that begins: the source may have grown."""
        return replace(self, order=self.order.renewed())

    def edit(self) -> Edit | None:
        """Return the function that completes each work item that is dealt; None: none need that."""
        return self.order.edit(self.history)

    def cursor(self, workers: int, backend: BackendName, draws: "DrawsEpochs | None" = None) -> Cursor:
        """Return a cursor at the beginning of the order.

        Args:
            workers: Number of workers. Streams without ``lanes`` have one lane for each worker.
            backend: The backend of the workers.
            draws: The run's draws from a sampler.
        """
        return self.order.cursor(workers, backend, draws, barrier=self.epoch_end is not None, edit=self.edit())
