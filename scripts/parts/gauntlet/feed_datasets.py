"""Hugging Face's streaming datasets in torchdata's `StatefulDataLoader`, as in their documentation."""

import contextlib
from collections.abc import Iterator
from typing import Any

import datasets
from datasets.distributed import split_dataset_by_node
from torchdata.stateful_dataloader import StatefulDataLoader

from parts.gauntlet.pipeline import LANES, WEIGHTS, Decode, Running, Setup, keep, of_rank


@contextlib.contextmanager
def feed(setup: Setup, states: list[Any] | None) -> Iterator[Running]:
    """Use ``state_dict`` and ``load_state_dict`` of the loader, and ``split_dataset_by_node`` for ranks."""
    datasets.disable_progress_bars()
    sets = [
        datasets.Dataset.from_dict({"number": list(numbers)}).to_iterable_dataset(num_shards=LANES)
        for numbers in setup.ranges
    ]
    mixed = datasets.interleave_datasets(sets, list(WEIGHTS), setup.seed, stopping_strategy="first_exhausted")
    decode = Decode(setup.cost_s)
    decoded = split_dataset_by_node(mixed, setup.rank, setup.world).map(
        lambda sample: {"number": decode(sample["number"])}
    )
    kept = decoded.filter(lambda sample: keep(sample["number"])).shuffle(setup.seed, buffer_size=setup.buffer)
    loader: Any = StatefulDataLoader(kept, setup.batch, num_workers=setup.workers)
    if states is not None:
        loader.load_state_dict(of_rank(states, setup))
    yield Running((batch["number"].tolist() for batch in loader), loader.state_dict)
