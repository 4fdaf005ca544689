"""The lanes of a stream, and those of them that are this rank's: checked, and chosen where nothing was said.

A stream whose source opens its lanes (it has ``open_lane``), or for which ``lanes=`` was given, has the same lanes for
any number of workers and of ranks: rank r of a world has those that are r modulo world. Any other generator function
has a lane for each worker, and rank 0 has the first ones.
"""

import warnings
from typing import Any

from mpqueue.engine.backend_kinds import BackendName, kind_of
from mpqueue.engine.lanes import LaneShare
from mpqueue.loader.sources import has_lanes
from mpqueue.samples.shards import Shard
from mpqueue.system.callers import outside_stacklevel

DEFAULT_LANES = 16
MAX_LANES = 1 << 16
_NUM_SHOWN = 4  # choices in an error


def check_lanes(source: Any, lanes: int | None, world: int) -> int | None:
    """Return how many lanes a stream has over all ranks; None: one for each worker.

    Args:
        source: Of the stream.
        lanes: What was asked for.
        world: The number of ranks.

    Raises:
        ValueError: The source is an iterator, there are too many lanes, or the ranks cannot have equally many.
    """
    if lanes is None:
        return -(-DEFAULT_LANES // world) * world if has_lanes(source) else None
    if lanes > MAX_LANES:
        raise ValueError(
            f"lanes must be at most {MAX_LANES:,}, got {lanes}. Each lane has its own buffers and its own place in a "
            "state: pass a small multiple of the number of ranks, or leave out lanes"
        )
    if not (has_lanes(source) or callable(source)):
        raise ValueError(
            f"lanes={lanes} needs a source that can be run once for each lane, and an iterator "
            f"({type(source).__name__}) is one stream: pass the generator function itself (a callable that returns a "
            "new iterator), or leave out lanes"
        )
    if lanes % world:
        below = lanes // world * world
        choices = [number for number in range(below, below + world * _NUM_SHOWN, world) if number]
        raise ValueError(
            f"lanes={lanes} cannot be dealt to {world} ranks, of which each takes equally many: pass a multiple of "
            f"{world}, such as {', '.join(map(str, choices))}"
        )
    return lanes


def warn_of_unequal_ranks(shard: Shard, epoch_batches: int | None) -> None:
    """Warn, on the first of several ranks, where each may get another number of batches of a stream."""
    rank, world = shard
    if world > 1 and not rank and epoch_batches is None:
        warnings.warn(
            f"{world} ranks share a stream, and nobody knows how many batches each of them gets: where they wait "
            "for each other in every step, the one that gets more hangs. Pass epoch_batches=n for epochs of n "
            "batches on each rank",
            UserWarning,
            stacklevel=outside_stacklevel(),
        )


def share_of(source: Any, lanes: int | None, shard: Shard, workers: int, backend: BackendName) -> LaneShare:
    """Return the lanes of this rank.

    Args:
        source: Of the stream.
        lanes: What `check_lanes` gave.
        shard: The rank.
        workers: How many run it here,
        backend: and where: threads share an iterator.
    """
    rank, world = shard
    if lanes is not None:
        return LaneShare(lanes // world, lanes, first=rank, step=world)
    is_shared = workers == 0 or not (callable(source) or kind_of(backend).in_processes)
    here = 1 if is_shared else workers
    return LaneShare(here, here * world, first=rank * here)


def warn_of_idle(share: LaneShare, lanes: int | None, workers: int) -> None:
    """Warn of workers that will never have anything to do: it looks as if nothing but more of them could help.

    Args:
        share: The lanes of this rank.
        lanes: What `check_lanes` gave; None: there is a lane for each worker.
        workers: How many run them.
    """
    here, world = share.num_lanes, share.step
    if lanes is None or workers <= here:
        return
    of = f", of which each of {world} ranks has {here}" if world > 1 else ""
    enough = -(-workers // here) * lanes
    warnings.warn(
        f"{workers} workers run a stream of {lanes} lanes{of}, and a lane is run by one worker at a time: "
        f"{workers - here} of them will have nothing to do. Pass workers={here}; or lanes={enough}, which is another "
        "order, and does not go on with states of this one",
        UserWarning,
        stacklevel=outside_stacklevel(),
    )
