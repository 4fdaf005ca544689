"""MosaicML Streaming: a mix by the proportions of streams. It shuffles by index, and has no filter."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from streaming import MDSWriter, Stream, StreamingDataLoader, StreamingDataset
from streaming.base.util import clean_stale_shared_memory

from parts.gauntlet.pipeline import WEIGHTS, Decode, Running, Setup


class Decoded(StreamingDataset):
    """The mix, decoded in `__getitem__`.

    Args:
        setup: The setup of the run.
        options: Options of `StreamingDataset`.
    """

    def __init__(self, setup: Setup, **options: Any) -> None:
        super().__init__(**options)
        self._decode = Decode(setup.cost_s)

    def __getitem__(self, at: Any) -> Any:
        """Return a sample."""
        return self._decode(super().__getitem__(at)["number"])


def prepare(setup: Setup) -> None:
    """Write the two sets in MosaicML's format."""
    for name, numbers in zip("ab", setup.ranges, strict=True):
        with MDSWriter(out=os.path.join(setup.folder, name), columns={"number": "int"}, size_limit=1 << 16) as out:
            for number in numbers:
                out.write({"number": number})


@contextlib.contextmanager
def feed(setup: Setup, states: list[Any] | None) -> Iterator[Running]:
    """Use ``state_dict`` and ``load_state_dict`` of its loader. The batch size counts all ranks together."""
    clean_stale_shared_memory()  # of killed processes
    streams = [
        Stream(local=os.path.join(setup.folder, name), proportion=weight)
        for name, weight in zip("ab", WEIGHTS, strict=True)
    ]
    batch = setup.batch // setup.world
    shuffling = {"shuffle_seed": setup.seed, "shuffle_algo": "py1e", "shuffle_block_size": setup.buffer}
    mixed = Decoded(setup, streams=streams, batch_size=batch, shuffle=True, num_canonical_nodes=4, **shuffling)
    loader: Any = StreamingDataLoader(mixed, batch_size=batch, num_workers=setup.workers)
    if states is not None:
        loader.load_state_dict(states[0])  # "called on rank zero", according to its documentation
    yield Running((numbers.tolist() for numbers in loader), loader.state_dict)
