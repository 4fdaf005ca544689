"""All measurements in interleaved rounds, so that fluctuations of the machine affect all libraries."""

import copy
import math
import time
from collections.abc import Callable, Collection

from parts.benchmark.cells import OURS
from parts.benchmark.known import WORKLOADS
from parts.benchmark.measure import Measurement
from parts.benchmark.results import Results
from parts.benchmark.workload import Figures, Setting
from parts.pictures import front_page


def plan(workloads: Collection[str], only: Collection[str], setting: Setting) -> list[Measurement]:
    """Return the measurements of one round.

    Args:
        workloads: Names of workloads.
        only: Names of the libraries to measure; empty for all.
        setting: The setting of all measurements.
    """
    return [
        Measurement(workload, name, setting)
        for workload in workloads
        for name in WORKLOADS[workload].readers
        if (not only or name in only) and WORKLOADS[workload].is_installed(name)
    ]


def is_important(one: Measurement) -> bool:
    """Return whether the front page or a list of pages shows the measurement, so that it should have several rounds."""
    is_in_a_list = one.workload.startswith(("first batch", "memory "))
    return is_in_a_list or (one.name in front_page.LOADERS and one.workload in front_page.QUESTIONS)


def measure(
    planned: list[Measurement],
    num_rounds: int,
    gathered: Results,
    report: Callable[[str], object],
    seconds: float = math.inf,
    check: Callable[[], None] = lambda: None,
) -> Results:
    """Run all rounds. If a later round is interrupted, the complete rounds before it are kept.

    Later rounds repeat all measurements if there is time for all rounds, and otherwise the important ones.

    Args:
        planned: The measurements of one round.
        num_rounds: Maximum number of rounds.
        gathered: Earlier results; not modified.
        report: Called before each measurement with its name, for a progress bar.
        seconds: The time limit of all rounds. After it, no measurement starts.
        check: Called after each round; raises a RuntimeError if its results do not count.

    Raises:
        KeyboardInterrupt: Ctrl-C in the first round.
        RuntimeError: A measurement of mpqueue, or the check, failed in the first round. In later rounds, it is
            reported.
    """
    again, began = planned, time.monotonic()
    for number in range(num_rounds):
        playing = copy.deepcopy(gathered)
        try:
            left_out = _play(again, playing, report, began + seconds)
            check()
        except (KeyboardInterrupt, RuntimeError) as ended:
            if number == 0:
                raise
            if isinstance(ended, RuntimeError):
                gathered.add_broken_round(number + 1, ended)
            break
        if left_out and number:
            break
        gathered = playing
        gathered.left_out += [f"{one.workload}: {one.name}" for one in left_out]
        if number == 0 and (time.monotonic() - began) * num_rounds > seconds:
            again = [one for one in planned if is_important(one)]
    return gathered


def _play(
    planned: list[Measurement], gathered: Results, report: Callable[[str], object], until: float
) -> list[Measurement]:
    """Make the measurements; return those without time."""
    for index, one in enumerate(planned):
        if time.monotonic() > until:
            return planned[index:]
        report(f"{one.workload}: {one.name}")
        if (one.workload, one.name) not in gathered.failed:  # it would fail again
            try:
                gathered.add(one, _found(one))
            except RuntimeError as error:
                gathered.add_failure(one, error)
    return []


def _found(one: Measurement) -> Figures:
    try:
        return one.in_fresh_process()
    except RuntimeError:
        if one.name.startswith(OURS):
            raise
    # If a Pool kills a worker that is writing, it hangs at the worker's lock, so a peer gets a second try.
    return one.in_fresh_process()
