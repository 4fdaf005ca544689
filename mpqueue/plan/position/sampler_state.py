"""The random state that a sampler's order depends on: recorded before an epoch, restored to draw the order again.

The recorded state depends on the sampler::

    a sampler with `state_dict` and `load_state_dict`          its own state
    a sampler that holds a generator (Python, NumPy, torch)    the state of each such generator
    a sampler that draws from a global generator at its start  the state of that generator; the trainer's own random
                                                               numbers are not affected

A sampler that draws from a global generator later, or from a generator that is not found, returns another order when it
is drawn again. `mpqueue.plan.position.sampler_fingerprint` detects that.
"""

import copy
from collections.abc import Iterable, Iterator
from typing import Any

from mpqueue.seeding.generators import GeneratorState, generators_in, global_generators, set_state, state_of
from mpqueue.system.signals.contexts import context_manager


class DrawsRandomNumbers(Exception):
    """An order depends on a random state that is not known."""


class Randomness:
    """The random state that the order of one sampler depends on.

    Args:
        sampler: The sampler.
        others: Objects with generators that do not belong to the sampler, such as the source.
    """

    def __init__(self, sampler: Any, *others: Any) -> None:
        self._sampler, self._others = sampler, others

    def now(self) -> dict[str, Any]:
        """Return the state without the global generators, as plain data; empty if the sampler has no random state."""
        stateful = self._stateful()
        if stateful is not None:
            return {"sampler": stateful.state_dict()}
        kept = {path: state for path, generator in self._generators() if (state := state_of(generator)) is not None}
        return {"kept": kept} if kept else {}

    @context_manager
    def recorded(self) -> Iterator[dict[str, Any]]:
        """Yield the state before the order that begins inside; used global generators are added to it at the end."""
        recorded = self.now()
        before = _states(global_generators())
        yield recorded
        if "sampler" not in recorded:
            changed = {name: state for name, state in _states(global_generators()).items() if state != before.get(name)}
            if changed:
                recorded["global"] = {name: before[name] for name in changed if name in before}

    @context_manager
    def restored(self, recorded: dict[str, Any]) -> Iterator[None]:
        """Restore a state for the order that begins inside; global generators get their present state back after it."""
        stateful = self._stateful()
        if stateful is not None and "sampler" in recorded:
            stateful.load_state_dict(recorded["sampler"])
        self._set_kept(recorded)
        states = recorded.get("global", {})
        with _unchanged(generator for name, generator in global_generators().items() if name in states):
            _set_global(recorded)
            yield

    @context_manager
    def aside(self, recorded: dict[str, Any] | None) -> Iterator[Any]:
        """Yield a sampler for a second iteration, after which all random states are as before.

        Args:
            recorded: The state before the order; None: unknown.

        Raises:
            DrawsRandomNumbers: The state is unknown, and the order depends on it.
        """
        stateful = self._stateful()
        if stateful is not None:
            yield self._copied(stateful, recorded)
            return
        own = [generator for _, generator in self._generators()]
        with _unchanged([*own, *global_generators().values()]) as before:
            # Separately: an attribute of the sampler may have the name of a global generator.
            self._set_kept(recorded or {})
            _set_global(recorded or {})
            yield self._sampler
            if recorded is None and any(snapshot.has_changed() for snapshot in before):
                raise DrawsRandomNumbers

    def _copied(self, stateful: Any, recorded: dict[str, Any] | None) -> Any:
        """Return a copy of a sampler with a state: the running iterator changes the sampler's own state."""
        if recorded is None or "sampler" not in recorded:
            raise DrawsRandomNumbers
        # The source is shared: it may be large, and only the sampler's state changes.
        shared = {id(each): each for each in (*self._others, getattr(stateful, "data_source", None))}
        sampler = copy.deepcopy(self._sampler, shared)
        copied = Randomness(sampler)._stateful()
        copied.load_state_dict(recorded["sampler"])
        return sampler

    def _stateful(self) -> Any:
        # A batch sampler often wraps a sampler, and only the inner one has a state.
        for sampler in (self._sampler, getattr(self._sampler, "sampler", None)):
            if hasattr(sampler, "state_dict") and hasattr(sampler, "load_state_dict"):
                return sampler
        return None

    def _generators(self) -> Iterator[tuple[str, Any]]:
        return generators_in(self._sampler, without=[*self._others, *global_generators().values()])

    def _set_kept(self, recorded: dict[str, Any]) -> None:
        """Set the generators that the sampler holds to their recorded states."""
        states = recorded.get("kept", {})
        for path, generator in self._generators() if states else ():
            if path in states:
                set_state(generator, states[path])


def _set_global(recorded: dict[str, Any]) -> None:
    """Set the global generators that a sampler has used to their recorded states."""
    states = recorded.get("global", {})
    for name, generator in global_generators().items() if states else ():
        if name in states:
            set_state(generator, states[name])


def _states(generators: dict[str, Any]) -> dict[str, Any]:
    return {name: state_of(generator) for name, generator in generators.items()}


@context_manager
def _unchanged(generators: Iterable[Any]) -> Iterator[list[GeneratorState]]:
    """Yield snapshots of generators, and restore them at the end."""
    before = [GeneratorState(generator) for generator in generators]
    try:
        yield before
    finally:
        for snapshot in before:
            snapshot.restore()
