"""The search for the number of workers, and of threads in each, beyond which the rate does not improve.

It uses the rules of ``workers="auto"``, which decide by the rate of the present numbers; here each rate is a
measurement. For a source that waits 20 ms per item and a user's two workers, it found 262 batches/s instead of 97.
"""

from collections.abc import Callable, Sequence

from mpqueue.commands.bench_measure import Backend, Measured, Setting
from mpqueue.workers.autosize import GAIN, Autosize, Size

_FAR_FASTER = 2.0


def climb(try_one: Callable[[Setting], Measured], backend: Backend, most: Size) -> list[Measured]:
    """Measure increasing numbers of workers of one kind, until the rules suggest no other number."""
    auto, results = Autosize(Size(1, 1), most, 0.0), dict[Size, Measured]()
    is_changed = True
    while is_changed:
        if auto.wanted not in results:
            results[auto.wanted] = try_one(Setting(auto.wanted.workers, backend, auto.wanted.threads))
        is_changed = auto.decide(results[auto.wanted].window, 0.0, lambda _more: True)
    return list(results.values())


def knee(measured: Sequence[Measured]) -> Measured:
    """Return the result with the fewest workers that no other result exceeds; processes and threads alike.

    Without workers, a batch costs the trainer its time, in addition to the training step. So the setting without
    workers counts only if it is much faster, because then most of the time is spent in delivering batches.
    """
    with_workers = [one for one in measured if one.setting.workers]
    best = max((one.batches_per_s for one in with_workers), default=0.0)
    alone = max((one for one in measured if not one.setting.workers), key=lambda one: one.batches_per_s, default=None)
    if alone is not None and alone.batches_per_s > _FAR_FASTER * best:
        return alone
    enough = [one for one in with_workers if GAIN * one.batches_per_s >= best]
    return min(enough, key=lambda one: (one.setting.workers, one.setting.threads, -one.batches_per_s))
