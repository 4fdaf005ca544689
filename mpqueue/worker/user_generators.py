"""Random generators that a source keeps: seeded for each batch, as the global ones are.

Each worker has a copy of the source. A generator that was made in `__init__` is in the same state in all of them: so
without this, different batches drew equal numbers. `mpqueue.seeding.generators` tells where they are looked for. One
that a source makes for each batch by itself is its own business.

What is found is known by its path, so that a batch draws the same numbers whatever was found before it.
"""

import functools
import random
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from mpqueue.seeding.generators import generators_in
from mpqueue.worker import torch_info
from mpqueue.worker.config import Payload
from mpqueue.worker.failures import passes_at_once


class KeptGenerators:
    """The generators in a source.

    Args:
        source: Is looked through before its first item, and after it, which may have made some.

    Attributes:
        is_idle: There is nothing to be done before a batch.
        stages: Of `mpqueue.telemetry.recorder`, while a batch is timed.
    """

    def __init__(self, source: Any) -> None:
        self.is_idle = False
        self.stages: Any = None
        self._source, self._looks_left = source, 2
        self._found: dict[int, tuple[int, Any]] = {}  # by identity: number of the path, generator
        self._refused: set[int] = set()

    def _look(self) -> None:
        for path, generator in generators_in(self._source):
            if id(generator) not in self._refused:
                self._found.setdefault(id(generator), (zlib.crc32(path.encode()), generator))

    def seed(self, seed: int, epoch: int, unit: int) -> None:
        """Seed all of them for a batch."""
        (self._seed if self.stages is None else self.stages.seeding(self._seed))(seed, epoch, unit)

    def _seed(self, seed: int, epoch: int, unit: int) -> None:
        if self._looks_left:
            self._looks_left -= 1
            self._look()
        for number, generator in list(self._found.values()):
            words = [number & 0xFFFFFFFFFFFFFFFF for number in (seed, epoch, unit, number)]
            try:
                _seed(generator, np.random.SeedSequence(words))
            except Exception as error:
                if passes_at_once(error):
                    raise
                self._refuse(generator, error)
        self.is_idle = not self._found and not self._looks_left

    def _refuse(self, generator: Any, error: Exception) -> None:
        del self._found[id(generator)]
        self._refused.add(id(generator))
        warnings.warn(
            f"the source keeps a {type(generator).__name__} that cannot be seeded for each batch ({error}): different "
            "batches may draw equal numbers from it. Draw from mpqueue.rng() instead",
            RuntimeWarning,
            stacklevel=2,
        )

    def states(self) -> list[tuple[Callable[[Any], object], Any]]:
        """Return what puts all of them back: functions and what to call them with."""
        if self._looks_left:
            self._look()
        return [_state_of(generator) for _, generator in self._found.values()]


def _seed(generator: Any, sequence: np.random.SeedSequence) -> None:
    if isinstance(generator, random.Random):
        generator.seed(int.from_bytes(sequence.generate_state(4).tobytes(), "little"))
    elif isinstance(generator, np.random.Generator):
        bits = generator.bit_generator
        bits.state = type(bits)(sequence).state
    elif isinstance(generator, np.random.RandomState):
        state: Any = np.random.MT19937(sequence).state
        generator.set_state(state)
    else:
        generator.manual_seed(int(sequence.generate_state(1, np.uint64)[0]) >> 1)


def _state_of(generator: Any) -> tuple[Callable[[Any], object], Any]:
    if isinstance(generator, random.Random):
        return generator.setstate, generator.getstate()
    if isinstance(generator, np.random.Generator):
        bits = generator.bit_generator
        return functools.partial(setattr, bits, "state"), bits.state
    return generator.set_state, generator.get_state()


def user_generators(payload: Payload) -> KeptGenerators:
    """Return the generators that the code of the user keeps and that are to be seeded.

    Those of a torch IterableDataset are not: such datasets draw an order in ``__iter__``, of which each worker
    takes its share, so that it has to be the same in all of them, as it is in torch. Hugging Face's do, too.
    """
    source = None if torch_info.is_of_iterable_dataset(payload.source) else payload.source
    if payload.samples is None or payload.samples.collate is None:
        return KeptGenerators(source)
    return KeptGenerators((source, payload.samples.collate))
