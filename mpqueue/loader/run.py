"""`Run`: a consumer's progress in a plan: the epoch, the batches in it, and where the next ``for`` continues.

A run lasts longer than the workers. While a pipeline delivers batches, it counts them, and the run reads its point. The
run does not refer to the session of the workers, so that answers about batches (`mpqueue.loader.questions`) do not
keep workers running. `mpqueue.loader.passes` begins and ends the passes of a run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mpqueue.backends.job import Job
from mpqueue.plan.options.backend_kinds import BackendName
from mpqueue.plan.order.plans import Plan
from mpqueue.plan.position.cursors import FROM_BEGINNING, Cursor, ResumePoint, WorkItem

if TYPE_CHECKING:
    from mpqueue.engine.pipeline import Pipeline
    from mpqueue.engine.progress.counts import DeliveredBatch
    from mpqueue.plan.ids.batch_info import BatchInfo
    from mpqueue.plan.position.draws import Draws  # only a plan with a sampler imports it
    from mpqueue.plan.states.states import States


class ReturnedBatches:
    """The batches that the loops of a run have returned: their number, the samples of each part, and the last one.

    Attributes:
        pipeline: The pipeline that counts; None between two loops.
        kept_last: The last batch before this pipeline; None: none since a point was loaded.
    """

    def __init__(self) -> None:
        self.pipeline: Pipeline | None = None
        self.kept_last: DeliveredBatch | None = None
        # In all, and without the batches of the pipeline.
        self._steps = self._steps_before = 0
        # The samples of each part of a mixture in these batches.
        self._parts: dict[str | int, int] = {}
        self._parts_before: dict[str | int, int] = {}

    @property
    def steps(self) -> int:
        """Number of batches."""
        return self._steps if self.pipeline is None else self._steps_before + self.pipeline.ledger.counts.num_returned

    def parts_at(self, where: ResumePoint) -> dict[str | int, int]:
        """Return the number of samples of each part of a mixture.

        Args:
            where: The result of `Run.where` at that time. Another thread may have received a batch since.
        """
        if self.pipeline is None:
            return self._parts
        return _sums(self._parts_before, self.pipeline.ledger.counts.parts.at(where), 1)

    @property
    def last(self) -> "DeliveredBatch | None":
        """The last batch; None: none since a point was loaded."""
        returned = None if self.pipeline is None else self.pipeline.ledger.counts.last()
        return self.kept_last if returned is None else returned._replace(step=self.steps - 1)

    def count_by(self, pipeline: "Pipeline") -> None:
        """Add the counts of this pipeline."""
        self._steps_before = self._steps - pipeline.ledger.counts.num_returned
        self._parts_before = _sums(self._parts, pipeline.ledger.counts.parts.at(pipeline.progress.point()), -1)
        self.pipeline = pipeline

    def keep(self, where: ResumePoint) -> None:
        """Keep the counts at this point, for the time after the pipeline."""
        self._steps, self.kept_last, self._parts = self.steps, self.last, self.parts_at(where)

    def set(self, steps: int, parts: Mapping[str | int, int]) -> None:
        """Continue the counts of a state."""
        self._steps, self._parts = steps, dict(parts)


class Run:
    """A consumer's progress in a plan.

    Args:
        job: The plan, and the data that its workers need.
        backend: The backend of the workers.
        draws: The draws from a sampler; None: the plan has no sampler.

    Attributes:
        job: The job, with the current plan.
        backend: The backend of the workers.
        draws: The draws from a sampler; None: the plan has no sampler.
        cursor: The order since the latest start of the workers; None: none since the run was moved to another point.
        point: The start of the loop, or of the next one; outdated while a pipeline counts.
        iterator: Id of the latest iterator.
        first_epoch: The epoch of the first loop.
        epoch: The epoch of the running loop, or of the next one.
        returned: The batches that the loops have returned.
        is_resumed: The loops continue another run, or at a point that was sought.
        last_known: Of a stream that was changed after its last batch: the work item of this batch, and its samples by
            the plan before the change.
    """

    def __init__(self, job: Job, backend: BackendName, draws: "Draws | None" = None) -> None:
        self.job, self.backend, self.draws = job, backend, draws
        self._is_endless = job.plan.ends_by_count
        self.cursor: Cursor | None = None
        self.point = ResumePoint()
        self.iterator = self.epoch = 0
        self.first_epoch: int | None = None
        # The pipeline, and its number of received batches, when an error replaced a batch or a loop continued in the
        # middle of an epoch. If it has not changed since, the next loop continues there.
        self._goes_on_at: tuple[Pipeline | None, int] = (None, 0)
        self.is_resumed = False
        self._goes_on = False  # the next loop continues in the middle of the epoch
        self.returned = ReturnedBatches()
        self.last_known: tuple[WorkItem, BatchInfo] | None = None

    @property
    def plan(self) -> Plan:
        """The current plan. It follows changes of the run, and of the source."""
        return self.job.plan

    def use(self, plan: Plan) -> None:
        """Continue with another plan of the same source."""
        plan.source.follow(plan.history)
        self.follow(plan)

    def follow(self, plan: Plan) -> None:
        """Continue with the current plan of the same source."""
        self.job = replace(self.job, plan=plan)
        if self.cursor is not None:
            self.cursor.edit = plan.edit()

    def where(self) -> ResumePoint:
        """Return the current point of the loops."""
        return self.point if self.returned.pipeline is None else self.returned.pipeline.progress.point()

    @property
    def is_holding(self) -> bool:
        """True if a frontend holds batches of the current loop that its user has not received."""
        progress = None if self.returned.pipeline is None else self.returned.pipeline.progress
        return progress is not None and bool(progress.deliveries)

    @property
    def is_counting(self) -> bool:
        """True until the end of the current loop was recorded."""
        return self.returned.pipeline is not None

    def settle(self) -> None:
        """Keep the current point, and stop counting by the pipeline. Batches that are held are dropped."""
        if self.returned.pipeline is not None:
            ledger = self.returned.pipeline.ledger
            self._goes_on = self._goes_on_at == (self.returned.pipeline, ledger.counts.num_taken)
            where = self.where()
            self._stop_counting(where, where)
            ledger.counts.drop_held()

    def use_lent(self) -> None:
        """Count a batch that a framework has taken ahead: it will use this batch, whatever changes."""
        if self.returned.pipeline is not None:
            for delivery in self.returned.pipeline.progress.deliveries:
                if delivery.is_lent:
                    self.returned.pipeline.progress.pass_on(delivery)

    def leave(self) -> None:
        """Leave the current loop, which holds batches: they belong to no later loop."""
        self.settle()
        self.iterator += 1

    def _stop_counting(self, where: ResumePoint, point: ResumePoint) -> None:
        self.returned.keep(where)
        self.point, self.returned.pipeline = point, None  # at once: an interrupt would strike between two statements

    def begin(self, *, stays: bool = False) -> bool:
        """Move to the start of the next loop; return whether it continues the epoch of the last one.

        It may be repeated: an interrupt may prevent the loop from starting, for instance while workers start.

        Args:
            stays: Continue in any case.
        """
        self.settle()
        goes_on, point = self._goes_on or stays, self.point
        if not goes_on:
            self.point = self._next_start(point)
        elif self._is_endless and not self._goes_on:
            self.point = point._replace(position=0)  # continue the stream, with the batches of a whole epoch
        # After the point: code that keeps an undelivered batch of the previous loop keeps the point before it until the
        # next loop starts. An interrupt in the other order would make a state count that batch.
        self.iterator += 1
        self.first_epoch = self.point.epoch if self.first_epoch is None else self.first_epoch
        self.epoch = self.point.epoch
        return goes_on

    def _next_start(self, point: ResumePoint) -> ResumePoint:
        """Return the start of the next epoch, if the last loop was left early."""
        if self._is_endless:
            return point._replace(epoch=point.epoch + 1, position=0) if point.position else point
        is_on_its_way = point.position or point.ahead or any(point.counts)
        return ResumePoint(point.epoch + 1, base=point.base) if is_on_its_way else point

    def use_counts_of(self, pipeline: "Pipeline") -> None:
        """Use the counts of this pipeline."""
        if self._goes_on:
            self._goes_on_at = pipeline, pipeline.ledger.counts.num_taken
        self.returned.count_by(pipeline)

    def note_failure(self) -> None:
        """Record that an error was raised in place of a batch."""
        if self.returned.pipeline is not None:
            # No batch is taken after an error that is held, so that this is the number when the user gets the error.
            ledger = self.returned.pipeline.ledger
            self._goes_on_at = self.returned.pipeline, ledger.counts.num_taken + len(ledger.progress.deliveries)

    def forget_held_failure(self) -> None:
        """Forget an error that a frontend holds: a change of the run drops it, and the loop may not raise it again."""
        pipeline, num_taken = self._goes_on_at
        if pipeline is not None and num_taken > pipeline.ledger.counts.num_taken:
            self.give_up()

    def give_up(self) -> None:
        """Record that the stream cannot continue at its point: the next loop begins a new epoch."""
        self._goes_on_at = (None, 0)

    def end_stream(self) -> None:
        """Record that the epoch of a stream is over; may be repeated."""
        if self.returned.pipeline is not None:
            where = self.where()
            self._stop_counting(where, ResumePoint(where.epoch + 1, base=where.base))
            self._goes_on = False

    # -- States

    def state(self) -> dict[str, Any]:
        """Return the state of the run, see `mpqueue.Loader.state_dict`.

        Raises:
            RuntimeError: The source changes itself in ``on_epoch_end``, has no ``state_dict``, and an epoch is over.
        """
        from mpqueue.plan.states.states import RunPosition

        where = self.where()
        is_ordered = bool(self.job.options.ordered)
        at = RunPosition(where, self.returned.steps, self.returned.parts_at(where), self.draws, self.cursor, is_ordered)
        return self._states().saved(at)

    def _states(self) -> "States":
        from mpqueue.plan.states.of_plan import states_of

        return states_of(self.plan, self.job.workers, self.backend)

    def check_states(self, states: Sequence[Any]) -> None:
        """Raise an error for states that `mpqueue.Loader.load_state_dict` cannot load, without changing the run."""
        from mpqueue.plan.states.saved_states import earliest, has_source, history_in

        source, of_plan = self.plan.source, self._states()
        of_plan.point(states)
        states = of_plan.here(states)
        if has_source(earliest(states)) and not source.can_resume:
            raise ValueError(
                f"the state contains the state of its source, but {type(source.given).__name__} has no "
                "load_state_dict(state): load it with the same source"
            )
        source.check_history(history_in(states))

    def load(self, states: Sequence[Any]) -> None:
        """Make the next loop continue the run of other states, which `check_states` has accepted; without workers."""
        from mpqueue.plan.states.saved_states import (
            earliest,
            has_source,
            history_in,
            parts_in,
            seed_in,
            source_in,
            steps_in,
        )

        all_states, states = states, self._states().here(states)
        first = earliest(states)
        # The cursor knows the fingerprints of the sampler in the run that ends here.
        self.cursor = None
        if has_source(first):
            self.plan.source.given.load_state_dict(source_in(first))
        self.use(self.plan.with_seed(seed_in(first)).with_history(history_in(states)))
        # Only now: the state of the source, and weights that were changed, determine how many batches an epoch has.
        plan, of_plan = self.plan, self._states()
        self._move_to(of_plan.begun_at(first, of_plan.point(states), self.draws))
        # Afterwards, because it keeps the steps that this run has counted so far.
        parts = parts_in(all_states, plan.source.part_names, plan.order.ranks.shard)
        self.returned.set(steps_in(first), parts)

    def seek(self, point: ResumePoint) -> None:
        """Make the next loop continue at a point of this run."""
        base = self.point.base
        # Loops that begin before the base will return its epoch as a whole.
        self._move_to(point._replace(base=base if point.epoch >= base.epoch else FROM_BEGINNING))

    def _move_to(self, point: ResumePoint) -> None:
        self.settle()
        self.is_resumed = True
        self.point, self._goes_on, self.first_epoch = point, True, None
        self.iterator += 1  # running iterators end
        self.epoch, self.returned.kept_last = point.epoch, None


def _sums(counts: Mapping[str | int, int], more: Mapping[str | int, int], times: int) -> dict[str | int, int]:
    """Return the sum of both numbers of samples of each part; ``times`` is -1 for the difference."""
    return {name: counts.get(name, 0) + times * more.get(name, 0) for name in {**counts, **more}}
