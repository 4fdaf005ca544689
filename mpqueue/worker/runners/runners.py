"""Creates the runner of a source: one class for each `RunnerKind`."""

from mpqueue.plan.options.batching import RunnerKind
from mpqueue.worker.runners.generator_lanes import IteratorRunner
from mpqueue.worker.runners.lane_runner import FunctionRunner, LaneRunner
from mpqueue.worker.runners.runner import GroupsRunner, Parts, Runner, SourceRunner
from mpqueue.worker.runners.sample_runner import SampleRunner

_KINDS: dict[RunnerKind, type[SourceRunner]] = {
    RunnerKind.ITEMS: Runner,
    RunnerKind.GROUPS: GroupsRunner,
    RunnerKind.SAMPLES: SampleRunner,
    RunnerKind.LANES: LaneRunner,
    RunnerKind.FUNCTION: FunctionRunner,
    RunnerKind.ITERATOR: IteratorRunner,
}


def make_runner(form: RunnerKind, parts: Parts) -> SourceRunner:
    """Return the runner of a source."""
    # These import modules that most workers do not need.
    if form is RunnerKind.THREADED:
        from mpqueue.worker.runners.in_flight import InFlightRunner

        return InFlightRunner(parts)
    if form is RunnerKind.COROUTINES:
        from mpqueue.worker.runners.coroutine_runners import CoroutineItemRunner, CoroutineSampleRunner

        return CoroutineItemRunner(parts) if parts.batching is None else CoroutineSampleRunner(parts)
    return _KINDS[form](parts)
