"""Creates the runner of a source: one class for each `Form`."""

from mpqueue.plan.options.batching import Form
from mpqueue.worker.runners.generator_lanes import IteratorRunner
from mpqueue.worker.runners.lane_runner import FunctionRunner, LaneRunner
from mpqueue.worker.runners.runner import GroupsRunner, Parts, Runner, SourceRunner
from mpqueue.worker.runners.sample_runner import SampleRunner

_KINDS: dict[Form, type[SourceRunner]] = {
    Form.ITEMS: Runner,
    Form.GROUPS: GroupsRunner,
    Form.SAMPLES: SampleRunner,
    Form.LANES: LaneRunner,
    Form.FUNCTION: FunctionRunner,
    Form.ITERATOR: IteratorRunner,
}


def make_runner(form: Form, parts: Parts) -> SourceRunner:
    """Return the runner of a source."""
    # These import modules that most workers do not need.
    if form is Form.THREADED:
        from mpqueue.worker.runners.in_flight import InFlightRunner

        return InFlightRunner(parts)
    if form is Form.COROUTINES:
        from mpqueue.worker.runners.coroutine_runners import CoroutineItemRunner, CoroutineSampleRunner

        return CoroutineItemRunner(parts) if parts.batching is None else CoroutineSampleRunner(parts)
    return _KINDS[form](parts)
