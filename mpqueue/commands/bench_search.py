"""The search for the number of workers, and of threads in each, beyond which nothing is gained.

It is that of ``workers="auto"``, which decides by what a run with the present numbers gave; here each run is a
measurement. What it brings to a source that waits 20 ms for each item: 262 batches/s where the two workers that were
asked about give 97.
"""

from collections.abc import Callable, Sequence

from mpqueue.commands.bench_measure import Backend, Measured, Setting
from mpqueue.workers.autosize import GAIN, Autosize, Size

_FAR_FASTER = 2.0


def climb(try_one: Callable[[Setting], Measured], backend: Backend, most: Size) -> list[Measured]:
    """Measure what is decided for workers of one kind, until nothing is left to try."""
    auto, found = Autosize(Size(1, 1), most, 0.0), dict[Size, Measured]()
    is_changed = True
    while is_changed:
        if auto.wanted not in found:
            found[auto.wanted] = try_one(Setting(auto.wanted.workers, backend, auto.wanted.threads))
        is_changed = auto.decide(found[auto.wanted].window, 0.0, lambda _more: True)
    return list(found.values())


def knee(found: Sequence[Measured]) -> Measured:
    """Return the one with the fewest workers that no other beats; processes and threads alike.

    Without workers a batch costs the trainer its time, beside the training step; so these count only where they are
    that much faster that the handing over must be what the time goes into.
    """
    with_workers = [one for one in found if one.setting.workers]
    best = max((one.batches_per_s for one in with_workers), default=0.0)
    alone = max((one for one in found if not one.setting.workers), key=lambda one: one.batches_per_s, default=None)
    if alone is not None and alone.batches_per_s > _FAR_FASTER * best:
        return alone
    enough = [one for one in with_workers if GAIN * one.batches_per_s >= best]
    return min(enough, key=lambda one: (one.setting.workers, one.setting.threads, -one.batches_per_s))
