"""The bottleneck and a remedy, in one sentence.

If the consumer waits for batches, the workers are the bottleneck: they compute, wait for data, write batches, or wait
for work because too few batches are in flight. Otherwise, the consumer is the bottleneck.

A verdict needs evidence. The first batches include imports and an empty ring, so that short runs are not judged.
Statements about most batches use the median, which the first batches cannot change. Statements about one batch in a
hundred require a hundred batches.
"""

from collections.abc import Callable
from typing import Any

from mpqueue.system.processes.cpus import num_cpus
from mpqueue.system.units import count_text, rate_text, share_text, size_text, time_text
from mpqueue.telemetry.epoch_starts import PART_TEXTS, slowest_of

_WAITS = 0.1  # share of the time; less is jitter of the machine
_DOMINATES = 0.5
_IDLE = 0.3
_LEAST_BATCHES, _LEAST_S = 10, 0.5  # a shorter run is not judged
_LEAST_FOR_P99 = 100
_TOO_SHORT = f"too early to find the bottleneck; try again after {_LEAST_BATCHES} batches and {_LEAST_S:g} seconds"


def sentence(counted: Any, judge: Callable[[Any], str]) -> str:
    """Return the rates, and the bottleneck if there is enough evidence.

    Args:
        counted: Statistics of a stream of batches.
        judge: Returns the bottleneck: `of_engine`, `of_server` or `of_consumer`.
    """
    if not counted.batches or counted.elapsed_s <= 0:
        return "no batches yet: the bottleneck is unknown until some batches were taken."
    size = f" ({size_text(counted.bytes_per_s)}/s)" if counted.bytes else ""
    rates = f"{rate_text(counted.batches_per_s)} batches/s{size} for {time_text(counted.elapsed_s)}"
    is_short = counted.batches < _LEAST_BATCHES or counted.elapsed_s < _LEAST_S
    return f"{rates}; {_TOO_SHORT if is_short else judge(counted)}{_crashes(counted)}."


def _crashes(counted: Any) -> str:
    deaths = getattr(counted, "deaths", 0)  # a consumer has no workers
    return f"; {count_text(deaths, 'worker')} crashed, see the log of mpqueue" if deaths else ""


def of_engine(counted: Any) -> str:
    """Return the bottleneck according to a `mpqueue.Statistics`."""
    share, starts = share_text(counted.wait_share), _of_starts(counted)
    if starts and counted.epoch_start_share >= counted.wait_share:
        return starts
    if counted.wait_share >= _WAITS:
        also = f"; in addition, {starts}" if starts else ""
        workers = f"{_of_workers(counted)}{_of_stages(counted)}"
        return f"the consumer waited {share} of the time: {workers}{also}"
    return f"the consumer waited only {share} of the time: {_of_trainer(counted)}"


def of_server(counted: Any) -> str:
    """Return the bottleneck according to a `mpqueue.service.serving.reports.ServerStatistics`."""
    consumers = counted.consumers
    if not consumers:
        return "no consumer is attached"
    share = sum(consumer.wait_share for consumer in consumers) / len(consumers)
    text = f"{count_text(len(consumers), 'consumer')} waited {share_text(share)} of the time"
    slow = [consumer for consumer in consumers if consumer.holds_up]
    if slow and len(consumers) > 1:
        names = ", ".join(f"{consumer.number} (process {consumer.pid})" for consumer in slow)
        return f'{text}: the others wait for consumer {names}; make it faster, or choose slow="detach"'
    if share >= _WAITS:
        starts = _of_starts(counted)
        if starts and counted.epoch_start_share >= _DOMINATES * share:  # the consumers wait in this time, too
            return f"{text}: {starts}"
        return f"{text}: {_of_workers(counted)}{_of_stages(counted)}{f'; in addition, {starts}' if starts else ''}"
    return f"{text}: they are the bottleneck, and more workers would not help"


def of_consumer(counted: Any) -> str:
    """Return the bottleneck according to a `mpqueue.telemetry.stats.ConsumerStatistics`."""
    share = share_text(counted.wait_share)
    if counted.wait_share >= _WAITS:
        return (
            f"this consumer waited {share} of the time: the server is the bottleneck, or another consumer that it "
            "waits for; see the server's statistics"
        )
    return f"this consumer waited only {share} of the time: it is the bottleneck, and a faster server would not help"


def _of_starts(counted: Any) -> str:
    """Return the cause of slow epoch starts, and a remedy; an empty string if they are fast."""
    if counted.epoch_start_share < _WAITS:
        return ""
    starts = counted.epoch_starts
    slowest = slowest_of({name: getattr(starts, f"{name}_s") for name in PART_TEXTS if name != "launch"})
    return (
        f"epochs start slowly, in {time_text(starts.total_s)} of {time_text(counted.elapsed_s)} "
        f"({count_text(starts.count, 'start')}), mostly because of {slowest.action}; {slowest.remedy}"
    )


def _of_workers(counted: Any) -> str:
    """Return the bottleneck of the workers, and a remedy."""
    resizes = counted.resizes
    workers, cpus = resizes[-1].workers if resizes else len(counted.workers), num_cpus()
    if not counted.ring_kind and not counted.credit_wait_s:
        return "it computes the batches itself; use workers"
    times = counted.times
    if counted.credit_wait_share >= _IDLE:
        if times.compute.count >= _LEAST_FOR_P99 and times.compute.p99_s > 4 * times.compute.p50_s:
            return (
                f"single slow batches delay it (1 of 100 takes over {time_text(times.compute.p99_s)}, half of them "
                f"{time_text(times.compute.p50_s)}); increase max_queue_size, or take others first with ordered=False"
            )
        return (
            "the workers are idle as well, because too few batches are in flight; increase max_queue_size, or use "
            "larger batches"
        )
    if times.copy.total_s > times.compute.total_s:
        return "the workers mostly write batches; fill arrays of mpqueue.empty() in place, or make the batches smaller"
    if times.collate.p50_s > _DOMINATES * times.compute.p50_s:
        return (
            "the workers mostly collate samples; define __getitems__, which returns several samples at once, or return "
            "arrays of equal shapes"
        )
    if times.seed.p50_s > _IDLE * times.compute.p50_s:
        return "the workers mostly seed random generators; draw from mpqueue.rng() instead of the global ones"
    if times.blocked.p50_s > _DOMINATES * times.compute.p50_s:
        share = share_text(min(1.0, times.blocked.p50_s / times.compute.p50_s))
        return (
            f"the source waits for {share} of its {time_text(times.compute.p50_s)} per batch (disk, network, locks), "
            f"and waiting workers need no CPU; use {_more_at_once(counted, workers)}, or read fewer and larger pieces"
        )
    if not counted.ring_kind:
        return "the threads are the bottleneck, because Python runs one thread at a time; use processes"
    if counted.nodes:  # the workers do not use the CPUs of this machine
        return (
            f"the workers are the bottleneck; use more than {count_text(workers, 'worker')} if "
            f"{count_text(len(counted.nodes), 'node')} have enough CPUs, or more nodes, or make the source cheaper "
            f"(a batch takes {time_text(times.compute.p50_s)})"
        )
    if resizes and (workers < cpus or len(resizes) > 1):
        return (
            f'the workers are the bottleneck; workers="auto" uses {workers}, because {resizes[-1].reason}; make the '
            f"source cheaper (a batch takes {time_text(times.compute.p50_s)})"
        )
    if workers < cpus:
        return f"the workers are the bottleneck; use more than {count_text(workers, 'worker')} (there are {cpus} CPUs)"
    return (
        f"the workers are the bottleneck: {count_text(workers, 'worker')} on {count_text(cpus, 'CPU')}; make the "
        f"source cheaper (a batch takes {time_text(times.compute.p50_s)}), or use another machine as well"
    )


def _more_at_once(counted: Any, workers: int) -> str:
    """Return the remedy for a source that waits: more samples at once."""
    if counted.concurrency:
        return f"concurrency={4 * counted.concurrency}"
    if not counted.ring_kind:
        return f"more than {count_text(workers, 'worker')}, or coroutines (async def)"
    return f"more than {count_text(workers, 'worker')}, or threads=16 in each, or coroutines (async def)"


def _of_stages(counted: Any) -> str:
    """Return the stage of a dataset that takes most of the workers' time; an empty string without stages."""
    total_s = sum(stage.total_s for stage in counted.stages)
    if total_s <= 0:
        return ""
    slowest = max(counted.stages, key=lambda stage: stage.total_s)
    waits = ""
    if slowest.wait_s > _DOMINATES * slowest.total_s:
        waits = f", and waits for {share_text(slowest.wait_s / slowest.total_s)} of it"
    share = share_text(slowest.total_s / total_s)
    return f"; the slowest stage is {slowest.name}, which takes {share} of the time of all stages{waits}"


def _of_trainer(counted: Any) -> str:
    """Return a remedy for the consumer."""
    if counted.copies_held > counted.batches // 10:
        share = share_text(counted.copies_held / counted.batches)
        return (
            f"it is the bottleneck, and {share} of its batches were private copies because it keeps many batches; drop "
            "batches that are no longer needed"
        )
    return "it is the bottleneck, and more or faster workers would not help"
