"""The bottleneck, and what to do about it, in one sentence.

A batch that is waited for is late because of the workers: they compute, or wait for what they compute from, or write,
or wait for work because too few batches may be under way. A batch that is not waited for leaves the consumer as the
bottleneck.

A verdict needs evidence: the first batches of a run tell of imports and of a ring that is empty yet, so a run of few
batches, or of a moment, is not judged. What is said of most batches is read off the median, which the first of them
cannot move; what is said of one batch in a hundred needs a hundred.
"""

from typing import Any

from mpqueue.system.cpus import num_cpus
from mpqueue.telemetry.units import rate_text, share_text, size_text, time_text

_WAITS = 0.1  # of the time: less is the jitter of a machine
_DOMINATES = 0.5
_IDLE = 0.3
_LEAST_BATCHES, _LEAST_S = 10, 0.5  # before these a run is not judged
_LEAST_FOR_P99 = 100
_NOTHING = "no batches yet: nothing can be said of the bottleneck before some were taken."
_TOO_SHORT = (
    f"that is too little to tell what holds it up; ask again after {_LEAST_BATCHES} batches and {_LEAST_S:g} seconds"
)


def of_engine(counted: Any) -> str:
    """Return the sentence about a `mpqueue.Statistics`."""
    if not counted.batches or counted.elapsed_s <= 0:
        return _NOTHING
    remarks = ""
    if counted.deaths:
        remarks = f"; {_count(counted.deaths, 'worker')} died on the way, and the log of mpqueue says how"
    if not _is_enough(counted):
        text = _TOO_SHORT
    elif counted.wait_share >= _WAITS:
        held_up = f"{_of_workers(counted)}{_of_stages(counted)}"
        text = f"the consumer waited for {share_text(counted.wait_share)} of the time: {held_up}"
    else:
        text = f"the consumer waited for {share_text(counted.wait_share)} of the time only: {_of_trainer(counted)}"
    return f"{_rates(counted)}; {text}{remarks}."


def of_server(counted: Any) -> str:
    """Return the sentence about a `mpqueue.service.reports.ServerStatistics`."""
    if not counted.batches or counted.elapsed_s <= 0:
        return _NOTHING
    consumers = counted.consumers
    if not consumers:
        return f"{_rates(counted)}; no consumer is attached."
    if not _is_enough(counted):
        return f"{_rates(counted)}; {_TOO_SHORT}."
    share = sum(consumer.wait_share for consumer in consumers) / len(consumers)
    text = f"{_count(len(consumers), 'consumer')} waited for {share_text(share)} of the time"
    slow = [consumer for consumer in consumers if consumer.holds_up]
    if slow and len(consumers) > 1:
        names = ", ".join(f"{consumer.number} (process {consumer.pid})" for consumer in slow)
        return (
            f'{_rates(counted)}; {text}: the others wait for consumer {names}; make it faster, or choose slow="detach".'
        )
    held_up = (
        f"{_of_workers(counted)}{_of_stages(counted)}"
        if share >= _WAITS
        else "they are the bottleneck, and more workers would gain nothing"
    )
    return f"{_rates(counted)}; {text}: {held_up}."


def of_consumer(counted: Any) -> str:
    """Return the sentence about a `mpqueue.telemetry.stats.ConsumerStatistics`."""
    if not counted.batches or counted.elapsed_s <= 0:
        return _NOTHING
    if not _is_enough(counted):
        return f"{_rates(counted)}; {_TOO_SHORT}."
    share = f"this consumer waited for {share_text(counted.wait_share)} of the time"
    if counted.wait_share >= _WAITS:
        text = f"{share}: the server is the bottleneck, or another consumer that it waits for; its statistics say which"
    else:
        text = f"{share} only: it is the bottleneck, and a faster server would gain it little"
    return f"{_rates(counted)}; {text}."


def _is_enough(counted: Any) -> bool:
    return bool(counted.batches >= _LEAST_BATCHES and counted.elapsed_s >= _LEAST_S)


def _of_workers(counted: Any) -> str:
    """Return what holds up the workers, and a remedy."""
    resizes = getattr(counted, "resizes", ())
    number, cpus = resizes[-1].workers if resizes else len(counted.workers), num_cpus()
    if not counted.ring_kind and not counted.credit_wait_s:
        return "it computes the batches itself; use workers"
    times = counted.times
    if counted.credit_wait_share >= _IDLE:
        if times.compute.count >= _LEAST_FOR_P99 and times.compute.p99_s > 4 * times.compute.p50_s:
            return (
                f"single slow batches hold it up (1 of 100 takes over {time_text(times.compute.p99_s)}, half of them "
                f"{time_text(times.compute.p50_s)}); raise max_queue_size, or let others pass with ordered=False"
            )
        return (
            "the workers idle as well, so too little is under way at a time; raise max_queue_size, or make the batches "
            "larger"
        )
    if times.copy.total_s > times.compute.total_s:
        return "the workers mostly write batches; fill arrays of mpqueue.empty() in place, or make the batches smaller"
    if times.collate.p50_s > _DOMINATES * times.compute.p50_s:
        return (
            "the workers mostly join samples; give the source __getitems__, which returns them at once, or return "
            "arrays of equal shapes"
        )
    if times.seed.p50_s > _IDLE * times.compute.p50_s:
        return "the workers mostly seed random generators; draw from mpqueue.rng() instead of the global ones"
    if times.blocked.p50_s > _DOMINATES * times.compute.p50_s:
        share = share_text(min(1.0, times.blocked.p50_s / times.compute.p50_s))
        return (
            f"the source waits for {share} of its {time_text(times.compute.p50_s)} per batch (disk, network, locks), "
            f"and workers that wait need no CPU; use more of them than {number}, or threads=16 in each, or read "
            "fewer and larger pieces"
        )
    if not counted.ring_kind:
        return "the threads are the bottleneck, and Python runs in one at a time; use processes, or more threads"
    if getattr(counted, "nodes", ()):  # the CPUs of this machine are not theirs
        return (
            f"the workers are the bottleneck; use more of them than {number}, as far as there are CPUs on "
            f"{_count(len(counted.nodes), 'node')}, or more nodes, or make the source cheaper (a batch takes "
            f"{time_text(times.compute.p50_s)})"
        )
    if resizes and (number < cpus or len(resizes) > 1):
        return (
            f'the workers are the bottleneck, of which workers="auto" has {number}, because {resizes[-1].reason}; make '
            f"the source cheaper (a batch takes {time_text(times.compute.p50_s)})"
        )
    if number < cpus:
        return f"the workers are the bottleneck; use more of them than {number} (there are {cpus} CPUs)"
    return (
        f"the workers are the bottleneck, and {number} of them have {_count(cpus, 'CPU')}; make the source cheaper "
        f"(a batch takes {time_text(times.compute.p50_s)}), or use another machine too"
    )


def _of_stages(counted: Any) -> str:
    """Return which stage of a dataset takes most of the workers' time; nothing if there is none."""
    total_s = sum(stage.total_s for stage in counted.stages)
    if total_s <= 0:
        return ""
    slowest = max(counted.stages, key=lambda stage: stage.total_s)
    waits = ""
    if slowest.wait_s > _DOMINATES * slowest.total_s:
        waits = f", and waits for {share_text(slowest.wait_s / slowest.total_s)} of it"
    share = share_text(slowest.total_s / total_s)
    return f"; the stage that holds up is {slowest.name}, which takes {share} of the time of all stages{waits}"


def _of_trainer(counted: Any) -> str:
    """Return what the consumer could do."""
    if counted.copies_held > counted.batches // 10:
        share = share_text(counted.copies_held / counted.batches)
        return (
            f"it is the bottleneck, and {share} of its batches were private copies because it keeps so many; drop "
            "batches that it is done with"
        )
    return "it is the bottleneck, and more or faster workers would gain nothing"


def _rates(counted: Any) -> str:
    size = f" ({size_text(counted.bytes_per_s)}/s)" if counted.bytes else ""
    return f"{rate_text(counted.batches_per_s)} batches/s{size} for {time_text(counted.elapsed_s)}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
