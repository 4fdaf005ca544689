"""Handlers of signals that raise at random moments in the calls of the loads in `parts.soak.struck`.

Each load is checked; and what interrupts lose or repeat is counted for each front end, in a separate process.
"""

import faulthandler
import logging
import multiprocessing
import random
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from parts.soak.alarms import Alarms
from parts.soak.rounds import Deviation, Tally
from parts.soak.struck import FRONTS, LOADS, Epochs, Load

HANG_S = 300  # seconds per epoch: a strike restarts workers, which took over 60 s with ten other processes running
_COLUMNS = ("strikes", "lost", "repeated", "hangs or crashes", "reported possible losses")


def strike(seed: str, seconds: float) -> Tally:
    """Interrupt each load for ``seconds``, at moments that the seed chooses; return the counts.

    Raises:
        Deviation: A batch was lost or repeated.
    """
    tally = Tally()
    for name, load in LOADS.items():
        tally.update(_strike_one(f"{seed} {name}", name, load, seconds))
    return tally


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
                tally["rounds"] += 1
                tally["batches"] += len(epoch.found)
                if time.monotonic() > until:
                    break
        except Deviation as deviation:
            raise Deviation(f"{name}, interrupted by signals: {deviation}") from deviation
        finally:
            epochs.close()
            log.setLevel(level)
        tally[f"signals during calls of {name}"] += alarms.count
        tally["of these, with another exception or none for the caller"] += alarms.num_replaced
    return tally


def count(names: list[str], num_strikes: int, seed: int) -> bool:
    """Strike each front end, and print the counts; return False if one has lost a batch, hung or crashed."""
    print(f"{'':12}" + "".join(f"{column:>{len(column) + 2}}" for column in _COLUMNS), flush=True)
    is_kept = True
    for name in names or list(FRONTS):
        found = _apart(name, num_strikes, seed)
        print(f"{name:12}" + "".join(f"{found[each]:>{len(each) + 2},}" for each in _COLUMNS), flush=True)
        is_kept &= not found["lost"] and not found["hangs or crashes"]
    return is_kept


def _apart(name: str, num_strikes: int, seed: int) -> Counter[str]:
    """Strike a front end in a fork of this process, which has used no front end."""
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
            return pool.submit(count_here, name, num_strikes, seed).result()
    except BrokenProcessPool:  # after a hang, `watched` has printed the stacks
        return Counter({"hangs or crashes": 1})


def count_here(name: str, num_strikes: int, seed: int) -> Counter[str]:
    """Strike a front end this many times in this process, and return the counts of batches, or of torch's samples."""
    counts = Counter(dict.fromkeys(_COLUMNS, 0))
    with Alarms(random.Random(f"{seed} {name}")) as alarms:
        epochs = watched(FRONTS[name], alarms)
        for epoch in epochs:
            if epoch.is_reported:
                counts["reported possible losses"] += 1
            else:
                wanted, got = (Counter(map(str, batches)) for batches in (epoch.expected, epoch.found))
                counts["lost"] += (wanted - got).total()
                counts["repeated"] += (got - wanted).total()
            counts["strikes"] = alarms.count
            if alarms.count >= num_strikes:
                break
        epochs.close()
    return counts
