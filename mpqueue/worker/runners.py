"""Makes what runs the source of a worker: by its index, by samples, by lanes, or as a bare iterator."""

from typing import Any, TypeAlias

from mpqueue.engine.torch_numbers import OnTrial, TorchNumbers
from mpqueue.samples.plan import SamplePlan
from mpqueue.worker.context import WorkerInfo
from mpqueue.worker.generator_lanes import IteratorRunner
from mpqueue.worker.lane_runner import LaneRunner
from mpqueue.worker.runner import BeginBatch, Runner
from mpqueue.worker.sample_runner import SampleRunner

StreamRunner: TypeAlias = LaneRunner | IteratorRunner
AnyRunner: TypeAlias = Runner | SampleRunner | StreamRunner


def make_runner(
    source: Any, info: WorkerInfo, begin: BeginBatch, samples: SamplePlan | None, *, in_slot: bool,
    torch: TorchNumbers | None = None,
) -> Runner | SampleRunner:  # fmt: skip
    """Make the runner of a source with an index; see `Runner` and `SampleRunner` for the arguments."""
    if samples is None:
        return Runner(source, info, begin, torch=torch)
    if samples.threads != 1:
        from mpqueue.worker.threaded_samples import ThreadedSampleRunner  # with what most workers have no need of

        return ThreadedSampleRunner(source, info, begin, samples, in_slot=in_slot, torch=torch)
    return SampleRunner(source, info, begin, samples, in_slot=in_slot, torch=torch)


def make_stream_runner(
    source: Any, info: WorkerInfo, begin: BeginBatch, samples: SamplePlan | None, *, num_lanes: int, in_slot: bool,
    torch: TorchNumbers | None = None, endless: bool = False, skips: bool = False, numbers: OnTrial | None = None,
    is_callers: bool = False,
) -> StreamRunner:  # fmt: skip
    """Make the runner of a stream; see `LaneRunner` for the arguments."""
    if not (callable(source) or hasattr(type(source), "open_lane")):
        return IteratorRunner(source, info, begin, samples, num_lanes=num_lanes, in_slot=in_slot, torch=torch)
    return LaneRunner(
        source, info, begin, samples, num_lanes=num_lanes, in_slot=in_slot, torch=torch, endless=endless, skips=skips,
        numbers=numbers, is_callers=is_callers,
    )  # fmt: skip
