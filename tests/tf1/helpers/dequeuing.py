"""A generator that takes from a queue, in a worker that is killed amid it."""

import os
import signal

import numpy as np
from helpers.gates import Gate, pass_gate

from mpqueue import Loader


def got_beside_a_death(queue):
    """The elements that come of 0 to 9: the generator is called afresh, not replayed, and 5 was the dead one's last."""
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
            arrival = gate.arrival()
            os.kill(arrival.pid, signal.SIGKILL)
            arrival.let_go()
            return [*got, *(int(batch[0]) for batch in batches)]
