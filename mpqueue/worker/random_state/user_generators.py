"""Random generators that a source keeps, seeded for each batch like the global ones.

Each worker has a copy of the source. A generator that was created in `__init__` has the same state in all copies, so
without seeding, different batches would draw equal numbers. `mpqueue.seeding.generators` describes where generators are
searched. A generator that the source creates for each batch is not affected.

A generator is identified by its path, so a batch draws the same numbers whichever generators were found before.
"""

import random
import zlib
from typing import Any

import numpy as np

from mpqueue.seeding.generators import GeneratorState, generators_in
from mpqueue.system.program_streams import warn_caller
from mpqueue.system.user_code.exception_texts import text_of
from mpqueue.worker import torch_info
from mpqueue.worker.config import Payload
from mpqueue.worker.failures import passes_at_once


class UserGenerators:
    """The generators in a source.

    Args:
        source: Searched before its first item, and after it, because the item may create generators.

    Attributes:
        is_idle: No generator must be seeded before a batch.
        num_late: Number of generators that were found after the first item had started.
        stages: The `mpqueue.telemetry.stages.Stages` of a timed batch, or None.
    """

    def __init__(self, source: Any) -> None:
        self.is_idle = False
        self.num_late = 0
        self.stages: Any = None
        self._source, self._looks_left = source, 2
        self._found: dict[int, tuple[int, Any]] = {}  # number of the path and generator, by identity
        self._refused: set[int] = set()
        self._restored: set[int] = set()  # generators with states that can be restored

    def search(self) -> None:
        """Search the source. Only the first two calls do: the second finds generators that the first item created."""
        if self._looks_left > 0:
            self._look()
            self._looks_left -= 1

    def find_late(self) -> int:
        """Search the source after its first item, if it was not searched since; return `num_late`."""
        if self._looks_left == 1:
            self.search()
        return self.num_late

    def _look(self) -> None:
        num_known = len(self._found)
        for path, generator in generators_in(self._source):
            if id(generator) not in self._refused:
                # The first path counts, so a generator with two names has the same numbers after another search.
                # By a checksum: `hash` of a string depends on the interpreter's salt, and the trainer may have a
                # different one.
                self._found.setdefault(id(generator), (zlib.crc32(path.encode()), generator))
        if self._looks_left < 2:
            self.num_late += len(self._found) - num_known

    def seed(self, seed: int, epoch: int, index: int) -> None:
        """Seed all generators for a batch."""
        (self._seed if self.stages is None else self.stages.seeding(self._seed))(seed, epoch, index)

    def _seed(self, seed: int, epoch: int, index: int) -> None:
        # Two searches: before the first item, and before the second for generators that the first has created.
        self.search()
        for generator_index, generator in list(self._found.values()):
            words = [word & 0xFFFFFFFFFFFFFFFF for word in (seed, epoch, index, generator_index)]
            try:
                _seed(generator, np.random.SeedSequence(words))
            except BaseException as error:
                if passes_at_once(error):
                    raise
                self._refuse(generator, error)
        self.is_idle = not self._found and self._looks_left <= 0

    def _refuse(self, generator: Any, error: BaseException) -> None:
        del self._found[id(generator)]
        self._refused.add(id(generator))
        warn_caller(
            f"the source keeps a {type(generator).__name__} that cannot be seeded for each batch ({text_of(error)}): "
            "different batches may draw equal numbers from it. Draw from mpqueue.rng() instead",
            RuntimeWarning,
        )

    def saved_states(self) -> list[GeneratorState]:
        """Return the states of all generators, to restore them later."""
        if self._looks_left > 0:
            self._look()
        states = []
        for _, generator in list(self._found.values()):
            try:
                states.append(state := GeneratorState(generator))
                if id(generator) not in self._restored:
                    state.restore()  # raises here and not after the batch if its class does not support that
                    self._restored.add(id(generator))
            except Exception as error:
                if passes_at_once(error):
                    raise
                self._refuse(generator, error)
        return [state for state in states if id(state.generator) in self._found]


def _seed(generator: Any, sequence: "np.random.SeedSequence") -> None:
    if isinstance(generator, random.Random):
        generator.seed(int.from_bytes(sequence.generate_state(4).tobytes(), "little"))
    elif isinstance(generator, np.random.Generator):
        bits = generator.bit_generator
        # The state and not the object is replaced: the source refers to the object, possibly from several positions.
        bits.state = type(bits)(sequence).state
    elif isinstance(generator, np.random.RandomState):
        state: Any = np.random.MT19937(sequence).state
        generator.set_state(state)
    else:
        # Torch expects a non-negative signed 64-bit integer.
        generator.manual_seed(int(sequence.generate_state(1, np.uint64)[0]) >> 1)


def user_generators(payload: Payload) -> UserGenerators:
    """Return the generators of user code that must be seeded.

    Generators of a torch IterableDataset are excluded: such datasets draw an order in ``__iter__``, and each worker
    takes its share of it, so the order must be the same in all workers, as in torch. The same holds for Hugging Face
    datasets.
    """
    source = None if torch_info.is_of_iterable_dataset(payload.source) else payload.source
    if payload.samples is None or payload.samples.collate is None:
        return UserGenerators(source)
    return UserGenerators((source, payload.samples.collate))
