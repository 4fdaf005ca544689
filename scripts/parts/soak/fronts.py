"""What interrupts lose or repeat, counted for each front end in a separate process."""

import faulthandler
import importlib.util
import json
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

import mpqueue
from parts.children import killed_with_parent
from parts.machine import SCRIPTS
from parts.soak.alarms import Alarms
from parts.soak.rounds import Deviation
from parts.soak.struck import TakenAhead, numbers_of_lane

_LENGTH = 24  # batches per epoch
_HANG_S = 60  # seconds without a returned call: a strike restarts workers, which takes at most a second or so
_HUNG = "Timeout ("  # of `faulthandler`
_COLUMNS = ("strikes", "lost", "repeated", "hangs", "reported possible losses")

# Runs one epoch. It adds the numbers of the batches to a list, and may raise the RuntimeError that reports a loss.
Epoch: TypeAlias = Callable[[Alarms, list[int]], None]


class _Numbers:
    def __len__(self) -> int:
        return _LENGTH

    def __getitem__(self, index: int) -> int:
        return index


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
    """Strike a front end this many times in this process, and return the counts."""
    alarms, counts = Alarms(random.Random(f"{seed} {name}")), Counter(dict.fromkeys(_COLUMNS, 0))
    epochs = FRONTS[name]()
    epoch = next(epochs)
    while alarms.count < num_strikes:
        found: list[int] = []
        try:
            epoch(alarms, found)
        except RuntimeError as error:
            if "an interrupt" not in str(error):
                raise
            counts["reported possible losses"] += 1
        else:
            wanted, got = Counter(range(_LENGTH)), Counter(found)
            counts["lost"] += (wanted - got).total()
            counts["repeated"] += (got - wanted).total()
    signal.setitimer(signal.ITIMER_REAL, 0)  # at its exit, Python removes the handler, and the signal ends the process
    epochs.close()
    counts["strikes"] = alarms.count
    return counts


def _until_done(alarms: Alarms, function: Callable[..., Any], *arguments: Any) -> Any:
    found: list[Any] = []
    while not found:
        faulthandler.dump_traceback_later(_HANG_S, exit=True)
        found = alarms.call(function, *arguments)
    return found[0]


def _epoch(begin: Callable[[], Iterator[Any]], alarms: Alarms, found: list[int]) -> None:
    batches = _until_done(alarms, begin)
    try:
        while True:
            found.append(int(_until_done(alarms, next, batches)))
    except StopIteration:
        return


def _loader(
    source: Any = None, epochs: Callable[[Any], Any] = lambda loader: loader, **options: Any
) -> Iterator[Epoch]:
    source = _Numbers() if source is None else source
    with mpqueue.Loader(source, batch_size=None, max_queue_size=4, **options) as loader:
        yield partial(_epoch, partial(iter, epochs(loader)))


def _enqueuer() -> Iterator[Epoch]:
    with mpqueue.OrderedEnqueuer(_Numbers(), use_multiprocessing=True) as enqueuer:
        enqueuer.start(2, 4)
        batches = enqueuer.get()

        def epoch(alarms: Alarms, found: list[int]) -> None:
            while _LENGTH - 1 not in found and len(found) < 2 * _LENGTH:
                found.append(int(_until_done(alarms, next, batches)))

        yield epoch


def _torch(num_workers: int) -> Iterator[Epoch]:
    loader: Any = mpqueue.torch.DataLoader(range(_LENGTH), batch_size=None, num_workers=num_workers)
    yield partial(_epoch, loader.__iter__)


FRONTS: dict[str, Callable[[], Any]] = {
    "inline": partial(_loader, workers=0),
    "thread": partial(_loader, workers=2, backend="thread"),
    "process": partial(_loader, workers=2),
    "stream": partial(_loader, source=partial(numbers_of_lane, _LENGTH), workers=2, lanes=2),
    "unordered": partial(_loader, workers=2, ordered=False),
    "ahead": partial(_loader, epochs=TakenAhead, workers=2),
    "enqueuer": _enqueuer,
}
if importlib.util.find_spec("torch") is not None:
    FRONTS |= {"torch-0": partial(_torch, 0), "torch-1": partial(_torch, 1)}
