"""Warns once if a source draws from a generator that all threads share, although a seed was given.

Worker threads, the consumer and other threads draw from the same `random`, `numpy.random` and torch generators in an
unpredictable order, so mpqueue does not seed these in threads. It can only warn. The consumer normally waits for the
first batch of a stream and does not draw in that time. So a generator that has changed by the end of that batch was
used by the source. Later batches are not checked.

A worker that computes samples in several threads checks the generators that these share in the same way.
"""

from mpqueue.seeding.generators import GeneratorState, global_generators
from mpqueue.system import log

_SHOWN = {"random": "Python's random", "numpy": "numpy.random", "torch": "torch's generator"}


class SharedGeneratorCheck:
    """The states of the shared generators before the first batch."""

    def __init__(self) -> None:
        self._before = [(name, GeneratorState(generator)) for name, generator in global_generators().items()]

    def drawn(self) -> list[str]:
        """Return the names of the generators that were used since."""
        # A library that was imported since has no earlier state, and is not reported.
        return [_SHOWN[name] for name, snapshot in self._before if snapshot.has_changed()]

    def tell(self, option: str = "") -> None:
        """Warn if shared generators were used for the first batch.

        Args:
            option: Name and value of the option that makes several samples run at once; empty for none.
        """
        drawn = " and ".join(self.drawn())
        if not drawn:
            return
        if option:
            event = (
                f"{drawn} drew numbers while {option} computed the samples of the first batch at once; the samples "
                "share them, and get these numbers in an unpredictable order. Draw from mpqueue.rng(), which is "
                "separate for each sample, or compute one sample at a time"
            )
        else:
            event = (
                f"{drawn} drew numbers while a thread computed the first batch; the threads of this process share "
                "them, so the given seed does not make these numbers reproducible. Draw from mpqueue.rng(), or use "
                'worker processes (backend="process", use_multiprocessing=True)'
            )
        log.warn(event, "Resume and reproduce a training", "Random numbers")
