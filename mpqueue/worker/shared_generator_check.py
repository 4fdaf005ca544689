"""Tells once that a source draws from a generator that all threads share, although a seed was given for its numbers.

Worker threads, the consumer and whoever else there is draw from one `random`, one `numpy.random` and one generator of
torch, in an order that nobody knows; so nothing is seeded there. That cannot be made right, but it can be said. The
consumer waits for the first batch of a stream, as a rule, and draws nothing meanwhile: what has changed by the end of
that batch, the source has drawn from. Later batches are not looked at.

A worker that computes samples in several threads of its own looks in the same way, at what these share.
"""

from typing import Any

from mpqueue.seeding.generators import global_generators, state_of
from mpqueue.system import log

_SHOWN = {"random": "Python's random", "numpy": "numpy.random", "torch": "torch's generator"}


class SharedDraws:
    """The generators that all threads share, as they are before the first batch."""

    def __init__(self) -> None:
        self._states = _states()

    def drawn(self) -> list[str]:
        """Return the names of those from which numbers were drawn since."""
        return [name for name, state in _states().items() if state != self._states.get(name, state)]

    def tell(self, threads: int = 1) -> None:
        """The first batch was computed, by so many threads: say which of them were drawn from."""
        drawn = self.drawn()
        if drawn and threads > 1:
            log.warn(
                f"{' and '.join(drawn)} drew numbers while threads={threads} computed the samples of the first batch; "
                "the threads share them, so that it is chance which sample draws which of these numbers. Draw from "
                "mpqueue.rng(), which is each sample's own, or leave out threads",
                "Reproducibility",
                "Random numbers",
            )
        elif drawn:
            log.warn(
                f"{' and '.join(drawn)} drew numbers while a thread computed the first batch; the threads of this "
                "process share them, so that the given seed does not make these numbers reproducible. Draw from "
                'mpqueue.rng(), or use worker processes (backend="process", use_multiprocessing=True)',
                "Reproducibility",
                "Random numbers",
            )


def _states() -> dict[str, Any]:
    return {_SHOWN[name]: state_of(generator) for name, generator in global_generators().items()}
