"""Creates the runner of a source: one class for each `RunnerKind`."""

from collections.abc import Callable

from mpqueue.plan.options.batching import RunnerKind
from mpqueue.worker.runners.runner import GroupsRunner, Runner, RunnerArguments, SourceRunner


def runner_of(form: RunnerKind) -> Callable[[RunnerArguments], SourceRunner]:
    """Return the class of a runner, or a function that creates it.

    The first call imports its modules, which workers of other sources do not need. A process that forks workers calls
    this function before: otherwise each worker would import them.
    """
    if form is RunnerKind.SAMPLES:
        from mpqueue.worker.runners.sample_runner import SampleRunner

        return SampleRunner
    if form is RunnerKind.LANES:
        from mpqueue.worker.runners.lane_runner import LaneRunner

        return LaneRunner
    if form is RunnerKind.FUNCTION:
        from mpqueue.worker.runners.lane_runner import FunctionRunner

        return FunctionRunner
    if form is RunnerKind.ITERATOR:
        from mpqueue.worker.runners.generator_lanes import IteratorRunner

        return IteratorRunner
    if form is RunnerKind.THREADED:
        from mpqueue.worker.runners.in_flight import InFlightRunner

        return InFlightRunner
    if form is RunnerKind.COROUTINES:
        from mpqueue.worker.runners.coroutine_runners import coroutine_runner

        return coroutine_runner
    return Runner if form is RunnerKind.ITEMS else GroupsRunner


def make_runner(form: RunnerKind, arguments: RunnerArguments) -> SourceRunner:
    """Return the runner of a source."""
    return runner_of(form)(arguments)
