"""The draw of a pass from the sampler of its loader, which can begin again.

The pass owns its draw, which does not refer to the loader. A sampler is often a generator, which an exception of a
signal handler ends: the draw then begins again where the pass began, and returns to its point.
"""

from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

from mpqueue.frameworks.torch.order import state
from mpqueue.frameworks.torch.order.beginning import (
    Beginning,
    at_beginning,
    draw_seed_again,
    epoch_of,
    sampler_with_epoch,
)
from mpqueue.frameworks.torch.order.order import DrawnBatches, SamplerWatch
from mpqueue.plan.position.cursors import ResumePoint

_OF_ORDER = ("generator", "sampler", "batch_sampler", "dataset", "_index_sampler", "_auto_collation")


def watch_of(loader: Any, batches: Iterator[Any], beginning: Beginning, resumed: state.State | None) -> SamplerWatch:
    """Return the draw of a pass from an iterator of the loader's sampler, which begins where the pass began.

    Args:
        loader: The loader.
        batches: The iterator.
        beginning: The beginning of the pass.
        resumed: The state that the pass resumes from; None: none.
    """
    # Without the loader, which refers to the pass: a reference cycle would keep both.
    parts = SimpleNamespace(**{name: getattr(loader, name) for name in _OF_ORDER})
    from_beginning = partial(_drawn_again, parts, beginning)
    if resumed is None:
        return SamplerWatch(loader, batches, from_beginning=from_beginning)
    draw_seed_again(loader, resumed.beginning)
    again = None if resumed.beginning.sampler is None else partial(iter, loader._index_sampler)
    return SamplerWatch(loader, batches, resumed.drawn, again, from_beginning)


def _drawn_again(loader: Any, beginning: Beginning, drawn: DrawnBatches) -> Iterator[Any]:
    """Return an iterator of a loader's sampler after the batches that a pass has drawn since its beginning.

    Raises:
        ValueError: The sampler returns others now, or fewer.
    """
    sampler, began = sampler_with_epoch(loader), state.State(beginning, ResumePoint(), drawn=drawn)
    epoch = epoch_of(sampler)
    try:
        with at_beginning(loader, beginning):
            watch = watch_of(loader, iter(loader._index_sampler), beginning, began)
            for _ in range(drawn.num_batches):
                watch.take()
    finally:
        if epoch is not None:
            sampler.set_epoch(epoch)  # the epoch of the next pass, if the program has set it already
    return watch.batches
