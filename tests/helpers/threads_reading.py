"""Threads that read the same source concurrently."""

import random
import threading

DEADLOCK_S = 60


def read_by_threads(read_samples, length, *, rounds):
    """Read random blocks of eight samples in four threads.

    Args:
        read_samples: Returns the samples of indices.
        length: The number of samples.
        rounds: The number of blocks of each thread.

    Returns:
        Pairs of an index and its sample.
    """
    read = []

    def draw(seed):
        dice = random.Random(seed)
        for _ in range(rounds):
            chosen = [dice.randrange(length) for _ in range(8)]
            read.extend(zip(chosen, read_samples(chosen), strict=True))

    threads = [threading.Thread(target=draw, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLOCK_S)
    assert len(read) == 4 * rounds * 8, "a thread has failed, or hangs"
    return read
