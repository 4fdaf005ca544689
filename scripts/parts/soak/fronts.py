"""What interrupts lose or repeat, counted for each front end in a separate process."""

import json
import random
import subprocess
import sys
from collections import Counter

from parts.children import killed_with_parent
from parts.machine import SCRIPTS
from parts.soak.alarms import Alarms
from parts.soak.interrupts import watched
from parts.soak.rounds import Deviation
from parts.soak.struck import FRONTS

_HUNG = "Timeout ("  # of `faulthandler`
_COLUMNS = ("strikes", "lost", "repeated", "hangs", "reported possible losses")


def count(names: list[str], num_strikes: int, seed: int) -> bool:
    """Strike each front end, and print the counts; return False if a batch was lost, or if a call did not return."""
    print(f"{'':12}" + "".join(f"{column:>{len(column) + 2}}" for column in _COLUMNS), flush=True)
    is_kept = True
    for name in names or list(FRONTS):
        found = _apart(name, num_strikes, seed)
        print(f"{name:12}" + "".join(f"{found[each]:>{len(each) + 2},}" for each in _COLUMNS), flush=True)
        is_kept &= not found["lost"] and not found["hangs"]
    return is_kept


def _apart(name: str, num_strikes: int, seed: int) -> Counter[str]:
    command = [sys.executable, str(SCRIPTS / "soak"), "--front", name, "--strikes", str(num_strikes)]
    done = subprocess.run(
        killed_with_parent([*command, "--seed", str(seed)]), check=False, capture_output=True, text=True
    )
    if done.returncode and _HUNG not in done.stderr:
        raise Deviation(f"{name}: status {done.returncode}: {done.stderr[-2000:]}")
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        return Counter(hangs=1)
    return Counter(json.loads(done.stdout))


def count_here(name: str, num_strikes: int, seed: int) -> dict[str, int]:
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
