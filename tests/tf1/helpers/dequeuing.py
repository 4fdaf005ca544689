"""A generator that dequeues in a worker, which is killed during iteration."""

import numpy as np
from helpers.gates import Gate, pass_gate

from mpqueue import Loader


def dequeued_across_a_crash(queue):
    """Return the elements that are delivered of 0 to 9: the generator restarts without replay, after the worker took 5."""
    queue.enqueue_many(np.arange(10))
    queue.close()
    with Gate() as gate:
        address = gate.address

        def source():
            while True:
                value = int(queue.dequeue())
                if value == 5:
                    pass_gate(address)
                yield np.array([value])

        with Loader(source, workers=1) as loader:
            batches = iter(loader)
            got = [int(next(batches)[0]) for _ in range(5)]
            gate.arrival().kill()
            return [*got, *(int(batch[0]) for batch in batches)]
