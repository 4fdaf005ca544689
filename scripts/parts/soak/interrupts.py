"""Handlers of signals that raise at random moments in the calls of all loads in `parts.soak.struck`."""

import faulthandler
import logging
import random
import signal
import time
from collections.abc import Callable

from parts.soak.alarms import Alarms
from parts.soak.rounds import Deviation, Tally
from parts.soak.struck import LOADS, Load

_SLICE_S = 3.0  # seconds that a load runs before the next one
_HANG_S = 300  # seconds per epoch: a strike restarts workers, which took over 60 s with ten other processes running
REPLACED = "of these, with another exception or none for the caller"


def strike(seed: int, seconds: float) -> Tally:
    """Interrupt each load for ``seconds``; return the counts.

    Raises:
        Deviation: A batch was lost or repeated.
    """
    tally = Tally()
    for name, load in LOADS.items():
        tally.add(_strike_one(f"{seed} {name}", name, load, seconds))
    return tally


def strike_often(seed: int, num_interrupts: int, report: Callable[[Tally], None]) -> Tally:
    """Interrupt all loads in turns until the number of interrupts is reached; return the counts.

    Args:
        seed: Chooses the moments.
        num_interrupts: The number of interrupts.
        report: Called with the counts after each turn of all loads.

    Raises:
        Deviation: A batch was lost or repeated.
    """
    tally, turn = Tally(), 0
    while count_of(tally) < num_interrupts:
        for name, load in LOADS.items():
            tally.add(_strike_one(f"{seed} {name} {turn}", name, load, _SLICE_S))
            if count_of(tally) >= num_interrupts:
                break
        report(tally)
        turn += 1
    return tally


def count_of(tally: Tally) -> int:
    """Return the number of interrupts."""
    return tally.faults.total() - tally.faults[REPLACED]


def _strike_one(seed: str, name: str, load: Load, seconds: float) -> Tally:
    tally, before = Tally(), signal.getsignal(signal.SIGALRM)
    log = logging.getLogger("mpqueue")
    level = log.level
    log.setLevel(logging.ERROR)  # hides the messages about skipped samples
    alarms, until = Alarms(random.Random(seed)), time.monotonic() + seconds
    faulthandler.dump_traceback_later(_HANG_S, exit=True)
    batches = load(alarms)
    try:
        for num_batches in batches:
            faulthandler.dump_traceback_later(_HANG_S, exit=True)
            tally.rounds += 1
            tally.batches += num_batches
            if time.monotonic() > until:
                break
    except Deviation as deviation:
        raise Deviation(f"{name}, interrupted by signals: {deviation}") from deviation
    finally:
        batches.close()
        faulthandler.cancel_dump_traceback_later()
        tally.faults[f"signals during calls of {name}"] += alarms.count
        tally.faults[REPLACED] += alarms.num_replaced
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        log.setLevel(level)
    return tally
