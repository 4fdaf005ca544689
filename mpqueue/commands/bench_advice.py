"""The last sentence of ``mpqueue bench``: what to change, and by how much it would help. Pure.

It has two parts. The first one is about workers: the fewest that give the best rate, beside what is used now. The
second one is about what holds the rate down then, the first of these that is true:

    the training step      with ``--step-ms``: batches come faster than the step takes them
    the handing over       the rate is near that of the ideal loader, and batches are small
    the copy               a large share of a worker's time is writing its batch into the ring
    memory                 the bytes of the batches are a large share of what the machine copies
    waiting                the source uses no CPU for most of its time
    the source             all else
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mpqueue.commands.bench_measure import Measured, Setting
from mpqueue.commands.bench_search import knee
from mpqueue.workers.autosize import GAIN

_NEAR_IDEAL, _SMALL_BYTES = 0.6, 1 << 20
_LARGE_COPY, _LARGE_TRAFFIC = 0.2, 0.25
_WAITING = 0.5

_OF_HANDING_OVER = (
    "batches cost less than their handing over, so make them larger (batch_size): twice the size is up to 2 times the "
    "samples/s"
)
_OF_COPY = (
    "{share:.0%} of a worker's time is the copy of its batch into the ring: allocate batches by "
    "mpqueue.empty(shape, dtype) in the source, which saves it, for up to {gain:.1f} times the rate"
)
_OF_MEMORY = (
    "the batches are {traffic:.1f} GB/s, and one core of this machine copies {most:.1f}, so give fewer bytes (uint8 "
    "instead of float32, converted in the training step): half of them is up to 2 times the rate"
)
_OF_WAITING = (
    "the source waits for {share:.0%} of its {ms:,.3g} ms per batch (disk, network, locks): read fewer and larger "
    "pieces, or from a faster place; half the wait is up to 2 times the rate"
)
_OF_SOURCE = (
    "the source computes for {ms:,.3g} ms per batch{where}, and only a cheaper one helps: half of that is up to 2 "
    "times the rate"
)
_OF_DRAWS = (
    "But the source draws from {drawn}, which all threads share and nobody seeds there, so that a run cannot be "
    "repeated: draw from mpqueue.rng(), or use processes (--only process measures these alone)."
)


@dataclass(frozen=True)
class Results:
    """All that was measured of one source.

    Attributes:
        measured: Of each setting, that without workers first.
        present: The setting that is used now.
        ideal: The rate of a loader that hands over one batch again and again, None: not measured.
        batch_bytes: Of one batch.
        copied_per_s: Bytes that one thread of the machine copies in a second.
        num_cpus: CPUs that may be used.
        step_s: Seconds that the training step takes for a batch, None: not told.
        drawn: The generators, shared by all threads of a process, that the source has drawn from.
    """

    measured: Sequence[Measured]
    present: Setting
    ideal: float | None
    batch_bytes: int
    copied_per_s: float
    num_cpus: int
    step_s: float | None = None
    drawn: tuple[str, ...] = ()

    @property
    def best(self) -> Measured:
        """The fewest workers that give the best rate."""
        return knee(self.measured)

    def of(self, setting: Setting) -> Measured | None:
        """Return what was measured of a setting."""
        return next((one for one in self.measured if one.setting == setting), None)


@dataclass(frozen=True)
class Advice:
    """A change to make.

    Attributes:
        setting: The workers to use.
        gain: The rate that they give, in those of the present setting.
        bottleneck: What holds the rate down then: "step", "handing over", "copy", "memory", "waiting" or "source".
        sentence: All of it in words.
    """

    setting: Setting
    gain: float
    bottleneck: str
    sentence: str


def advise(results: Results) -> Advice:
    """Return what to change, by the measurements; with what threads would do to the source's random numbers."""
    advice = _advise(results)
    if not (advice.setting.is_in_threads and results.drawn):
        return advice
    return replace(advice, sentence=f"{advice.sentence} {_OF_DRAWS.format(drawn=' and '.join(results.drawn))}")


def _advise(results: Results) -> Advice:
    now = results.of(results.present) or results.measured[0]
    if results.step_s is not None:
        found = _enough(results, results.step_s)
        if found is not None:
            is_enough = now.setting.workers and now.batches_per_s >= GAIN / results.step_s
            return _of_step(now, now if is_enough else found, results.step_s)
    best = results.best
    gain = best.batches_per_s / now.batches_per_s
    bottleneck, remedy = _limit(results, best)
    return Advice(best.setting, gain, bottleneck, f"{_workers(now, best)}; {remedy}.")


def _enough(results: Results, step_s: float) -> Measured | None:
    """Return the fewest workers that are faster than the training step, at least one."""
    fast = [one for one in results.measured if one.setting.workers and one.batches_per_s >= GAIN / step_s]
    return min(fast, key=lambda one: (one.setting.workers, -one.batches_per_s), default=None)


def _of_step(now: Measured, found: Measured, step_s: float) -> Advice:
    spent, then = _in_all(now, step_s), _in_all(found, step_s)
    is_kept = found.setting == now.setting
    beside = "" if is_kept else f" in all, where it takes {1000 * spent:.3g} with {now.setting}"
    text = (
        f"{'Keep' if is_kept else 'Use'} {found.setting.code()}: batches come {found.batches_per_s * step_s:.1f} times "
        f"as fast as the training step of {1000 * step_s:g} ms takes them, so a step takes {1000 * then:.3g} ms"
        f"{beside}; the step is the bottleneck{'' if is_kept else ' then'}, and only a faster one helps."
    )
    return Advice(found.setting, spent / then, "step", text)


def _in_all(one: Measured, step_s: float) -> float:
    """Return the seconds of a training step with its batch: workers are at work meanwhile, the trainer is not."""
    return max(step_s, 1 / one.batches_per_s) if one.setting.workers else step_s + 1 / one.batches_per_s


def _workers(now: Measured, best: Measured) -> str:
    """Return the part of the sentence about workers."""
    rate, gain = f"{_rate(best.batches_per_s)} batches/s", best.batches_per_s / now.batches_per_s
    if best.setting == now.setting:
        return f"Keep {best.setting.code()} ({rate}), more gain nothing"
    if gain >= GAIN:
        return f"Use {best.setting.code()}: {rate}, {gain:.1f} times what {now.setting} {_give(now)}"
    return f"Use {best.setting.code()}: {rate}, as much as {now.setting} {_give(now)}"


def _give(one: Measured) -> str:
    return "gives" if one.setting.workers == 1 else "give"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _limit(results: Results, best: Measured) -> tuple[str, str]:
    """Return what holds the rate down, and what to do; see the module's head."""
    if not best.setting.workers or _is_near_ideal(results, best):
        return "handing over", _OF_HANDING_OVER
    worked = best.source_s + best.copy_s
    copy_share = best.copy_s / worked if worked else 0.0
    if copy_share >= _LARGE_COPY:
        gain = 1 / (1 - copy_share)
        return "copy", _OF_COPY.format(share=copy_share, gain=gain)
    traffic = best.batches_per_s * results.batch_bytes
    if traffic >= _LARGE_TRAFFIC * results.copied_per_s:
        return "memory", _OF_MEMORY.format(traffic=traffic / 1e9, most=results.copied_per_s / 1e9)
    alone = results.measured[0]
    source_ms = 1000 * alone.source_s * (1 - (alone.crowded_share or 0.0))
    if alone.waiting_share > _WAITING:
        return "waiting", _OF_WAITING.format(share=alone.waiting_share, ms=source_ms)
    cpus = f" on all {results.num_cpus} CPUs" if best.setting.workers >= results.num_cpus > 1 else ""
    return "source", _OF_SOURCE.format(ms=source_ms, where=cpus)


def _is_near_ideal(results: Results, best: Measured) -> bool:
    ideal = results.ideal
    return bool(ideal) and best.batches_per_s >= _NEAR_IDEAL * (ideal or 0) and results.batch_bytes < _SMALL_BYTES
