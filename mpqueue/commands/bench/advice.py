"""The last sentence of ``mpqueue bench``: the recommended change and its gain. Pure.

The first part is about workers: the smallest number with the best rate, compared with the present setting. The second
part names the remaining bottleneck, the first of these with a true condition:

    the training step      with ``--step-ms``: batches arrive faster than the step takes them
    handing over           the workers wait for the consumer
    the copy               a large share of a worker's time is copying its batch into the ring
    waiting                the source waits for most of its time
    the source             otherwise
"""

from dataclasses import dataclass, replace

from mpqueue.backends.processes.autosize import GAIN
from mpqueue.commands.bench.measure import Measured, Results, Setting
from mpqueue.system.units import rate_text

_IDLE, _LARGE_COPY, _WAITING = 0.3, 0.2, 0.5

_OF_HANDING_OVER = (
    "delivering batches costs more than computing them, so make them larger (batch_size): twice the size is up to 2 "
    "times the samples/s"
)
_OF_COPY = (
    "{share:.0%} of a worker's time is the copy of its batch into the ring: allocate batches by "
    "mpqueue.empty(shape, dtype) in the source, which avoids the copy, for up to {gain:.1f} times the rate"
)
_OF_WAITING = (
    "the source waits for {share:.0%} of its {ms:,.3g} ms per batch (disk, network, locks): read fewer and larger "
    "pieces, or from a faster disk; half the wait is up to 2 times the rate"
)
_OF_SOURCE = (
    "the source computes for {ms:,.3g} ms per batch{where}, and only a cheaper source helps: half of that is up to 2 "
    "times the rate"
)
_OF_DRAWS = (
    "But the source draws from {drawn}, which all threads share without seeding, so a run is not reproducible: draw "
    "from mpqueue.rng(), or use processes (--only process measures only these)."
)
_OF_UNSEEN = (
    "{unseen} may change at any time (it is shared memory, or declares constant = False), so no batch is computed "
    "before its epoch begins. If it does not change between epochs, set constant = True on the source."
)


@dataclass(frozen=True)
class Advice:
    """A recommended change.

    Attributes:
        setting: The workers to use.
        gain: The rate of this setting, relative to the present setting.
        bottleneck: The remaining bottleneck: "step", "handing over", "copy", "waiting" or "source".
        sentence: The recommendation.
    """

    setting: Setting
    gain: float
    bottleneck: str
    sentence: str


def advise(results: Results) -> Advice:
    """Return the recommendation, with notes about random numbers in threads, and about changes between epochs."""
    advice, notes = _advise(results), []
    if advice.setting.is_in_threads and results.drawn:
        notes.append(_OF_DRAWS.format(drawn=" and ".join(results.drawn)))
    if advice.setting.workers and results.unseen:
        notes.append(_OF_UNSEEN.format(unseen=results.unseen))
    return replace(advice, sentence=" ".join([advice.sentence, *notes]))


def _advise(results: Results) -> Advice:
    now = next(one for one in results.measured if one.setting == results.present)
    if results.step_s is not None:
        fast = _fast_enough(results, results.step_s)
        if fast is not None:
            is_enough = now.setting.workers and now.batches_per_s >= GAIN / results.step_s
            return _for_step(now, now if is_enough else fast, results.step_s)
    best = results.best
    gain = best.batches_per_s / now.batches_per_s
    bottleneck, remedy = _limit(results, best)
    return Advice(best.setting, gain, bottleneck, f"{_workers(now, best)}; {remedy}.")


def _fast_enough(results: Results, step_s: float) -> Measured | None:
    """Return the smallest number of workers, at least one, that is faster than the training step."""
    fast = [one for one in results.measured if one.setting.workers and one.batches_per_s >= GAIN / step_s]
    return min(fast, key=lambda one: (one.setting.workers, -one.batches_per_s), default=None)


def _for_step(now: Measured, best: Measured, step_s: float) -> Advice:
    present_s, then_s = _total_s(now, step_s), _total_s(best, step_s)
    is_kept = best.setting == now.setting
    compared = "" if is_kept else f" in total, instead of {1000 * present_s:.3g} with {now.setting}"
    text = (
        f"{'Keep' if is_kept else 'Use'} {best.setting.code()}: batches arrive {best.batches_per_s * step_s:.1f} times "
        f"as fast as the training step of {1000 * step_s:g} ms takes them, so a step takes {1000 * then_s:.3g} ms"
        f"{compared}; the step is the bottleneck{'' if is_kept else ' then'}, and only a faster one helps."
    )
    return Advice(best.setting, present_s / then_s, "step", text)


def _total_s(one: Measured, step_s: float) -> float:
    """Return the seconds of a training step with its batch: workers run during the step, the trainer does not."""
    return max(step_s, 1 / one.batches_per_s) if one.setting.workers else step_s + 1 / one.batches_per_s


def _workers(now: Measured, best: Measured) -> str:
    """Return the first part of the sentence, about workers."""
    rate, gain = f"{rate_text(best.batches_per_s)} batches/s", best.batches_per_s / now.batches_per_s
    if best.setting == now.setting:
        return f"Keep {best.setting.code()} ({rate}), more workers do not improve the rate"
    if gain >= GAIN:
        return f"Use {best.setting.code()}: {rate}, {gain:.1f} times the rate of {now.setting}"
    return f"Use {best.setting.code()}: {rate}, the same rate as {now.setting}"


def _limit(results: Results, best: Measured) -> tuple[str, str]:
    """Return the remaining bottleneck and its remedy; see the module docstring."""
    if not best.setting.workers or best.idle_share >= _IDLE:
        return "handing over", _OF_HANDING_OVER
    worked = best.source_s + best.copy_s
    copy_share = best.copy_s / worked if worked else 0.0
    if copy_share >= _LARGE_COPY:
        return "copy", _OF_COPY.format(share=copy_share, gain=1 / (1 - copy_share))
    if best.blocked_s > _WAITING * best.source_s:
        share = min(1.0, best.blocked_s / best.source_s)
        return "waiting", _OF_WAITING.format(share=share, ms=1000 * best.source_s)
    cpus = f" on all {results.num_cpus} CPUs" if best.setting.workers >= results.num_cpus > 1 else ""
    return "source", _OF_SOURCE.format(ms=1000 * best.source_s, where=cpus)
