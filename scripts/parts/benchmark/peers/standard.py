"""A peer from the standard library: a pool."""

import itertools
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from parts.benchmark.in_flight import adopt, item
from parts.benchmark.workload import Peer


@contextmanager
def imap(source: Any, num_workers: int, _ahead: int) -> Iterator[Iterator[Any]]:
    """Use `multiprocessing.Pool.imap` with fork, which starts fastest. The number of batches ahead is not limited."""
    with multiprocessing.get_context("fork").Pool(num_workers, adopt, (source,)) as pool:
        yield pool.imap(item, itertools.count())


PEERS = {"imap": Peer(imap)}
