"""The beginning of a pass: the generators and the sampler before the sampler's first draw, and the way back there."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.data import SequentialSampler

from mpqueue.frameworks.torch.order.accelerate import sampler_facts
from mpqueue.frameworks.torch.order.balance import settings_of
from mpqueue.frameworks.torch.order.order import batch_size_of, order_of, sampler_of
from mpqueue.plan.position.sampler_state import Randomness
from mpqueue.plan.sources.stream_sources import DEFAULT_LANES
from mpqueue.seeding.global_rng import GlobalState
from mpqueue.system.signals.contexts import context_manager


class Beginning(NamedTuple):
    """The beginning of a pass.

    Attributes:
        base_seed: Seed of the workers' random numbers.
        generator: State of the loader's generator, or of the default one, as `generator_state` returns it; None: the
            order does not depend on a generator.
        sampler: State of the sampler; None: it has no state.
        kept: States of the generators that a sampler without a state holds.
        sampler_epoch: The sampler's epoch from ``set_epoch``; None: not set, or not stored by the sampler.
        shape: A description of each stage of a `mpqueue.Dataset` that is a stream.
        lanes: Number of lanes of this stream, over all ranks.
        shard: The rank and the number of ranks.
        epoch_batches: Number of batches per epoch and rank.
        batch_size: The loader's batch size; None: no batches.
        order: The order of a map-style dataset, as `order.order_of` describes it; None: unknown.
        balance: The settings of its balance, as `balance.settings_of` returns them.
    """

    base_seed: int
    generator: Any
    sampler: Any
    kept: Any = None
    sampler_epoch: int | None = None
    shape: list[str] | None = None
    lanes: int = DEFAULT_LANES
    shard: Sequence[int] = (0, 1)
    epoch_batches: int | None = None
    batch_size: int | None = None
    order: str | None = None
    balance: list[Any] | None = None


def beginning_of(loader: Any, base_seed: int) -> Beginning:
    """Return the beginning of a pass: the present state, before the sampler is iterated."""
    is_ordered = isinstance(sampler_of(loader), SequentialSampler) and loader.generator is None
    # Ranks write their states into one file, and torch's generator may differ between them.
    is_ordered = is_ordered or sampler_facts(loader) is not None
    randomness = _randomness_of(loader).now()
    return Beginning(
        base_seed,
        None if is_ordered else generator_state(generator_of(loader)),
        randomness.get("sampler"),
        randomness.get("kept"),
        epoch_of(sampler_with_epoch(loader)),
        batch_size=batch_size_of(loader),
        order=order_of(loader),
        balance=settings_of(loader),
    )


def generator_of(loader: Any) -> torch.Generator:
    """Return the generator for a loader's order."""
    return torch.default_generator if loader.generator is None else loader.generator


def generator_state(generator: torch.Generator) -> str:
    """Return the state of a generator as a hexadecimal string, so that states can be compared and stored as JSON."""
    return str(generator.get_state().numpy().tobytes().hex())


def set_generator(generator: torch.Generator, saved: str) -> None:
    """Set a generator to a state that `generator_state` returned."""
    generator.set_state(torch.frombuffer(bytearray.fromhex(saved), dtype=torch.uint8))


def draw_seed(generator: torch.Generator | None) -> int:
    """Draw a seed of workers, as torch does."""
    return int(torch.empty((), dtype=torch.int64).random_(generator=generator).item())


def drawn_at(before: Beginning, after: Beginning) -> Beginning:
    """Return the beginning of a pass after its sampler was iterated, and may have drawn its order.

    Args:
        before: The beginning before the sampler was iterated.
        after: The beginning after the seed of the workers was drawn.
    """
    generator, is_drawn = torch.Generator(), False
    if before.generator is not None:
        set_generator(generator, before.generator)
        # The sampler has drawn if the generator does not draw the seed first.
        is_drawn = draw_seed(generator) != after.base_seed
    return before._replace(base_seed=after.base_seed, generator=before.generator if is_drawn else after.generator)


def draw_seed_again(loader: Any, beginning: Beginning) -> None:
    """Draw the seed of the workers if the pass has drawn it after its sampler was iterated; see `drawn_at`.

    A sampler may draw the rest of its order later, and so may the next pass.
    """
    if beginning.generator is None:
        return
    generator = generator_of(loader)
    before = generator.get_state()
    if draw_seed(generator) != beginning.base_seed:  # it was drawn before
        generator.set_state(before)


def sampler_with_epoch(loader: Any) -> Any:
    """Return a loader's sampler that has ``set_epoch`` and stores the epoch; None: it has no such sampler."""
    # A batch sampler often wraps a sampler of samples, and only the inner one has an order.
    for outer in (loader.batch_sampler, loader.sampler):
        for sampler in (outer, getattr(outer, "sampler", None)):
            if epoch_of(sampler) is not None:
                return sampler
    return None


def epoch_of(sampler: Any) -> int | None:
    """Return the epoch that a sampler got last by ``set_epoch``; None: it has no such method, or does not store it."""
    epoch = getattr(sampler, "epoch", None)
    return epoch if isinstance(epoch, int) and callable(getattr(sampler, "set_epoch", None)) else None


@context_manager
def at_beginning(loader: Any, beginning: Beginning | None, *, draws: bool = False) -> Iterator[None]:
    """Set samplers and generators to an earlier beginning. The trainer's default generator is restored at the end.

    Args:
        loader: The loader.
        beginning: The beginning; None: do not change the loader.
        draws: The pass has not drawn from there yet. If the trainer's default generator is at that state now, it is not
            restored: the pass draws from it, as without a resume. Otherwise the next pass would have the same order.
    """
    if beginning is None:
        yield
        return
    generator = generator_of(loader)
    is_here = draws and generator_state(generator) == beginning.generator
    before = generator.get_state() if loader.generator is None and not is_here else None
    _go_to(loader, beginning)
    try:
        with _randomness_of(loader).restored(_recorded(beginning)):
            yield
    finally:
        if before is not None:
            generator.set_state(before)


def _go_to(loader: Any, beginning: Beginning) -> None:
    """Set the generator and the epoch of the sampler. The state of the sampler, if it has one, is more precise."""
    if beginning.generator is not None:
        set_generator(generator_of(loader), beginning.generator)
    sampler = sampler_with_epoch(loader)
    if sampler is not None and beginning.sampler_epoch is not None:
        sampler.set_epoch(beginning.sampler_epoch)


def _recorded(beginning: Beginning) -> dict[str, Any]:
    """Return the states of the sampler, as `Randomness` records them."""
    return {name: getattr(beginning, name) for name in ("sampler", "kept") if getattr(beginning, name) is not None}


@context_manager
def sampler_again(loader: Any, beginning: Beginning) -> Iterator[Any]:
    """Yield the batches of the sampler of a pass. At the end, samplers and generators continue where they were.

    Raises:
        DrawsRandomNumbers: The state of the sampler at the beginning is unknown.
    """
    generator, shared, sampler = generator_of(loader), GlobalState(), sampler_with_epoch(loader)
    before, epoch = generator.get_state(), epoch_of(sampler)
    try:
        _go_to(loader, beginning)
        with _randomness_of(loader).aside(_recorded(beginning)) as drawn:
            batches = iter(drawn)
            draw_seed_again(loader, beginning)
            yield batches
    finally:
        shared.restore()
        generator.set_state(before)
        if epoch is not None:
            sampler.set_epoch(epoch)


def _randomness_of(loader: Any) -> Randomness:
    sampler = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
    return Randomness(sampler, loader.dataset, generator_of(loader))
