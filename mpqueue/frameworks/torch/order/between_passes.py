"""The state of a loader between its passes: before the first one, and where the next one begins."""

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any

from mpqueue.frameworks.torch.order.accelerate import sampler_facts
from mpqueue.frameworks.torch.order.beginning import (
    at_beginning,
    beginning_of,
    draw_seed,
    draw_seed_again,
    drawn_at,
    epoch_of,
    generator_of,
    generator_state,
    sampler_with_epoch,
    set_generator,
)
from mpqueue.frameworks.torch.order.state import Pass, State
from mpqueue.plan.position.cursors import ResumePoint


def lanes_of(loader: Any) -> int:
    """Return the number of streams of a loader's iterable-style dataset: from a state, or one per worker."""
    resumed: State | None = getattr(loader, "resumed", None)
    counts = () if resumed is None or resumed.beginning.shape is not None else resumed.point.counts
    return len(counts) or getattr(loader, "num_lanes", 0) or max(1, loader.num_workers)


def new(loader: Any) -> State:
    """Return the state of a loader before its first pass.

    The epoch of a sampler is not included: the program sets it before each pass.
    """
    beginning = beginning_of(loader, 0)._replace(generator=generator_state(generator_of(loader)), sampler_epoch=None)
    return State(beginning, ResumePoint(), is_new=True, is_unknown=loader.is_unknown)


def begin_unknown(loader: Any, begin_pass: Callable[[], Any]) -> Any:
    """Begin a pass of torch's own workers, which report no point. Return its iterator.

    Args:
        loader: The loader. It may have a state before or after a pass.
        begin_pass: Makes the iterator, which draws from the generator.
    """
    resumed, loader.resumed, loader.is_unknown = loader.resumed, None, True
    if resumed is not None and resumed.is_left:
        leave(loader, resumed)
        resumed = None
    with at_beginning(loader, None if resumed is None else resumed.beginning):
        return begin_pass()


def settle(loader: Any, *, is_eager: bool = False) -> None:
    """If a loader has a state of `new`, turn it into a state before the first batch of the pass that begins there.

    Args:
        loader: The loader.
        is_eager: If the sampler draws in its ``__iter__``, the order is drawn before the seed of the workers; see
            `InlineIterator`.
    """
    resumed: State | None = getattr(loader, "resumed", None)
    if resumed is None or not resumed.is_new:
        return
    facts = sampler_facts(loader)
    with at_beginning(loader, resumed.beginning, draws=facts is None or not facts.is_drawn):
        before = beginning_of(loader, 0)
        iter(loader._index_sampler)  # as torch does before it draws the seed
        seed = draw_seed(loader.generator)
        after = beginning_of(loader, seed)
    beginning = drawn_at(before, after) if is_eager else after
    if facts is not None:
        beginning = beginning._replace(base_seed=facts.seed)
    loader.resumed = State(beginning._replace(sampler_epoch=None), ResumePoint())


def due(loader: Any) -> State | None:
    """Return the state for resuming the first pass of an iterator; None: it begins from the start.

    A pass that was left ends with its workers, and the next one draws a new seed. Persistent workers keep their seed.
    """
    resumed: State | None = getattr(loader, "resumed", None)
    begun: Pass | None = getattr(loader, "_pass", None)
    if resumed is None and begun is not None and not loader.persistent_workers:
        resumed = loader.resumed = begun.following()
    if resumed is None or not resumed.is_left or loader.persistent_workers:
        return resumed
    leave(loader, resumed)
    loader.resumed = None
    return None


def leave(loader: Any, left: State) -> None:
    """Set a loader's own generator and sampler to their state when a pass was left, so that the next pass continues.

    With workers, a sampler is ahead of the returned batches, and may be exhausted. Torch's random samplers then
    draw once more, as at the end of a pass.
    """
    beginning, point = left.beginning, left.point
    if point.counts:
        if beginning.shape is None:
            loader.num_lanes = len(point.counts)
        if loader.generator is not None and beginning.generator is not None:
            set_generator(loader.generator, beginning.generator)  # used for the seed of the workers
        return
    if loader.generator is None and beginning.sampler is None and beginning.kept is None:
        return
    num_drawn = None if left.is_over else point.position + loader.num_workers * (loader.prefetch_factor or 0)
    sampler = sampler_with_epoch(loader)
    epoch = epoch_of(sampler)
    with at_beginning(loader, beginning):
        batches = iter(loader._index_sampler)
        draw_seed_again(loader, beginning)
        deque(islice(batches, num_drawn), 0)
    if epoch is not None:
        sampler.set_epoch(epoch)  # the epoch of the next pass, if the program has set it already
