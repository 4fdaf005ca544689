"""A running enqueuer of worker processes."""

import contextlib

from mpqueue import OrderedEnqueuer


@contextlib.contextmanager
def started(source, workers, max_queue_size=10, **options):
    """Yield an enqueuer of a source until the block ends."""
    with OrderedEnqueuer(source, True, **options) as enqueuer:
        enqueuer.start(workers, max_queue_size)
        yield enqueuer
