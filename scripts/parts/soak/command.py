"""The command line of `scripts/soak`."""

import argparse
import faulthandler
import gc
import random
import sys
import threading
import time

import mpqueue
from parts.processes import comes_true, family
from parts.soak import apart, growth, interrupts, services
from parts.soak.rounds import Deviation, Tally, rounds

_DEADLOCK_S = 150  # seconds per round
_SETTLED_S = 5.0
_SHARE = 0.25  # fraction of the time for signals at random moments
_MOST_S = 60.0  # maximum seconds of that for each kind of call


def main(about: str) -> int:
    """Run the command line; return the exit status."""
    options = _parser(about).parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    try:
        if options.service:
            _service_until(seed, time.monotonic() + 60 * options.minutes)
        elif options.strikes:
            return int(not interrupts.count(options.fronts, options.strikes, seed))
        elif options.batches:
            _long_load(seed, options.batches)
        else:
            _until(seed, time.monotonic() + 60 * options.minutes)
    except Deviation as deviation:
        print(f"DEVIATION: {deviation}\nrepeat it with --seed {seed}", file=sys.stderr)
        return 1
    return 0


def _parser(about: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--minutes", type=float, default=1.0, help="duration (default: 1)")
    parser.add_argument("--seed", type=int, help="repeat a run")
    parser.add_argument("--service", action="store_true", help="kill and stop servers and consumers")
    parser.add_argument("--strikes", type=int, help="raise from signal handlers this often in each frontend, and count")
    parser.add_argument("--fronts", nargs="+", default=[], choices=interrupts.FRONTS, help="of --strikes; default: all")
    parser.add_argument("--batches", type=int, help="run one load of this many batches, and print the growth")
    return parser


def _until(seed: int, deadline: float) -> None:
    started, chance = time.monotonic(), random.Random(seed)
    tally = interrupts.strike(str(seed), min(_MOST_S, _SHARE * (deadline - started) / len(interrupts.LOADS)))
    faulthandler.dump_traceback_later(_DEADLOCK_S, exit=True)
    mpqueue.shutdown()
    samples = []
    for one in rounds(seed):
        faulthandler.dump_traceback_later(_DEADLOCK_S, exit=True)
        if chance.randrange(10) == 0:
            tally.update(apart.killed_trainer(chance))
        else:
            tally.update(one.run())
            del one
            mpqueue.shutdown()
            gc.collect()
            samples.append(growth.sample(tally["batches"]))
        if time.monotonic() > deadline:
            break
    faulthandler.dump_traceback_later(_DEADLOCK_S, exit=True)  # covers the exit, too
    _report(tally, time.monotonic() - started)
    print(growth.as_text(samples), flush=True)
    _require_nothing_left()


def _service_until(seed: int, deadline: float) -> None:
    started, tally = time.monotonic(), Tally()
    try:
        for one in services.rounds(seed):
            tally.update(one.run())
            if time.monotonic() > deadline:
                break
    finally:
        _report(tally, time.monotonic() - started)


def _require_nothing_left() -> None:
    """Raise unless only this process, Python's resource tracker, and the watchdog threads for deadlocks are left."""

    def is_settled() -> bool:  # a cancelled timer ends by itself
        last = growth.sample(0)
        return last.threads <= 3 and last.processes <= 2

    if not comes_true(is_settled, _SETTLED_S):
        raise Deviation(f"a process or thread was leaked: {growth.sample(0)}, {family()}, {threading.enumerate()}")


def _report(tally: Tally, seconds: float) -> None:
    print(
        f"{tally['rounds']:,} rounds in {seconds:.0f} s: {tally['batches']:,} batches of {tally['bytes'] / 1e9:.2f} GB "
        "were correct"
    )
    for kind in sorted(tally.keys() - {"rounds", "batches", "bytes"}):
        print(f"  {tally[kind]:8,}  {kind}")


def _long_load(seed: int, num_batches: int) -> None:
    started, one = time.monotonic(), growth.LongRound(seed, num_batches)
    _report(one.run(), time.monotonic() - started)
    print(growth.as_text(one.samples), flush=True)
    growth.require_none(one.samples)
