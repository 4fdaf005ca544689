"""Seeding of the generators that all code of a process shares, for each sample, whether or not it draws from them."""

from types import ModuleType

from mpqueue.seeding.global_rng import GlobalState, number_of, seed_globals, seed_torch
from mpqueue.system.user_code.imports import Watch


class EagerSeeding:
    """The states of the generators when it was created, and the seeding for one sample after the other."""

    def __init__(self) -> None:
        self._states = GlobalState()
        self._of: tuple[int, int, int] | None = None
        self._watch: Watch | None = None

    def seed(self, seed: int, epoch: int, position: int) -> None:
        """Seed all generators for a sample, and torch's also if the sample imports torch."""
        if self._watch is None:
            self._watch = Watch("torch", self._add_torch)
        self._of = seed, epoch, position
        seed_globals(seed, epoch, position)

    def _add_torch(self, torch: ModuleType) -> None:
        if self._of is not None and hasattr(torch, "default_generator"):
            self._states.add_torch(torch)
            seed_torch(torch.default_generator, number_of(*self._of))

    def restore(self) -> None:
        """Restore the states. A second call has the same effect."""
        if self._watch is not None:
            self._watch.end()
            # Its method refers to this object: the states, 25 KB, would wait for the garbage collector.
            self._watch = None
        self._states.restore()
