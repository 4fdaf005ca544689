"""Handlers of signals that raise at random moments in the calls of the loads in `parts.soak.struck`."""

import faulthandler
import logging
import math
import random
import time

from parts.soak.alarms import Alarms
from parts.soak.rounds import Deviation, Tally
from parts.soak.struck import LOADS, Epochs, Load

HANG_S = 300  # seconds per epoch: a strike restarts workers, which took over 60 s with ten other processes running
REPLACED = "of these, with another exception or none for the caller"


def strike(seed: str, seconds: float, enough: float = math.inf) -> Tally:
    """Interrupt each load for ``seconds``; return the counts.

    Args:
        seed: Chooses the moments.
        seconds: The time of each load.
        enough: A number of interrupts after which no further load runs.

    Raises:
        Deviation: A batch was lost or repeated.
    """
    tally = Tally()
    for name, load in LOADS.items():
        tally.add(_strike_one(f"{seed} {name}", name, load, seconds))
        if count_of(tally) >= enough:
            break
    return tally


def count_of(tally: Tally) -> int:
    """Return the number of interrupts."""
    return tally.faults.total() - tally.faults[REPLACED]


def watched(load: Load, alarms: Alarms) -> Epochs:
    """Yield the epochs of a load. If one hangs, this process prints its stacks and ends."""
    faulthandler.dump_traceback_later(HANG_S, exit=True)
    epochs = load(alarms)
    try:
        for epoch in epochs:
            faulthandler.dump_traceback_later(HANG_S, exit=True)
            yield epoch
    finally:
        epochs.close()
        faulthandler.cancel_dump_traceback_later()


def _strike_one(seed: str, name: str, load: Load, seconds: float) -> Tally:
    tally, log = Tally(), logging.getLogger("mpqueue")
    level = log.level
    log.setLevel(logging.ERROR)  # hides the messages about skipped samples
    until = time.monotonic() + seconds
    with Alarms(random.Random(seed)) as alarms:
        epochs = watched(load, alarms)
        try:
            for epoch in epochs:
                if epoch.found != epoch.expected and not epoch.is_reported:
                    raise Deviation(f"expected {epoch.expected}, got {epoch.found}")
                tally.rounds += 1
                tally.batches += len(epoch.found)
                if time.monotonic() > until:
                    break
        except Deviation as deviation:
            raise Deviation(f"{name}, interrupted by signals: {deviation}") from deviation
        finally:
            epochs.close()
            log.setLevel(level)
        tally.faults[f"signals during calls of {name}"] += alarms.count
        tally.faults[REPLACED] += alarms.num_replaced
    return tally
