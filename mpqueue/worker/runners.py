"""Creates the runner of a source: one class for each `Form`."""

from collections.abc import Callable
from typing import Any, NamedTuple

from mpqueue.plan.batching import Batching, Form
from mpqueue.seeding.lazy_seeding import LazySeeding
from mpqueue.worker.context import WorkerInfo
from mpqueue.worker.generator_lanes import IteratorRunner
from mpqueue.worker.lane_runner import LaneRunner
from mpqueue.worker.runner import BeginBatch, Runner, SourceRunner
from mpqueue.worker.sample_runner import SampleRunner


class Parts(NamedTuple):
    """The arguments of runners; see `Runner`, `SampleRunner` and `LaneRunner`.

    Attributes:
        source: The source.
        info: The worker.
        begin: Called with (seed, epoch, place) before a sample.
        batching: How samples become batches; None if items are batches.
        in_slot: Batches are written into a slot.
        seeding: Seeds the global generators once for samples that share them. If None, they are not seeded.
        num_lanes: Number of lanes over all ranks; 0 if the source has an index.
        endless: A finished lane restarts.
        skips: A lane leaves out elements that raise an error.
        is_callers: The runner is used by the thread that handles signals.
    """

    source: Any
    info: WorkerInfo
    begin: BeginBatch
    batching: Batching | None
    in_slot: bool
    seeding: LazySeeding | None = None
    num_lanes: int = 0
    endless: bool = False
    skips: bool = False
    is_callers: bool = False


def make_runner(form: Form, parts: Parts) -> SourceRunner:
    """Return the runner of a source."""
    return _MAKERS[form](parts)


def _of_items(parts: Parts) -> Runner:
    return Runner(parts.source, parts.info, parts.begin)


def _of_samples(parts: Parts) -> SampleRunner:
    source, info, begin, batching = parts[:4]
    assert batching is not None
    return SampleRunner(source, info, begin, batching, in_slot=parts.in_slot)


def _of_samples_in_threads(parts: Parts) -> SampleRunner:
    from mpqueue.worker.threaded_samples import ThreadedSampleRunner  # imports modules that most workers do not need

    source, info, begin, batching = parts[:4]
    assert batching is not None
    return ThreadedSampleRunner(source, info, begin, batching, in_slot=parts.in_slot, seeding=parts.seeding)


def _of_iterator(parts: Parts) -> IteratorRunner:
    return IteratorRunner(*parts[:4], num_lanes=parts.num_lanes, in_slot=parts.in_slot, seeding=parts.seeding)


def _of_lanes(parts: Parts, *, opens_lanes: bool = True) -> LaneRunner:
    return LaneRunner(
        *parts[:4], num_lanes=parts.num_lanes, in_slot=parts.in_slot, seeding=parts.seeding, endless=parts.endless,
        skips=parts.skips, is_callers=parts.is_callers, opens_lanes=opens_lanes,
    )  # fmt: skip


def _of_function(parts: Parts) -> LaneRunner:
    return _of_lanes(parts, opens_lanes=False)


_MAKERS: dict[Form, Callable[[Parts], SourceRunner]] = {
    Form.ITEMS: _of_items,
    Form.SAMPLES: _of_samples,
    Form.THREADED: _of_samples_in_threads,
    Form.LANES: _of_lanes,
    Form.FUNCTION: _of_function,
    Form.ITERATOR: _of_iterator,
}
