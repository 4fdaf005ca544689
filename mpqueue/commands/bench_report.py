"""The text of ``mpqueue bench``."""

from collections.abc import Sequence

from mpqueue.commands.bench_advice import Advice, Results
from mpqueue.commands.bench_measure import Measured
from mpqueue.commands.frame import aligned, folded

_SHOWN_ARRAYS = 4
_CROWDED = 0.1


def lines(name: str, arrays: Sequence[str], results: Results, advice: Advice, width: int | None = None) -> list[str]:
    """Return the report: the batch, its costs, the rates, the limit of the search, and the recommendation.

    Args:
        name: Name of the factory.
        arrays: Descriptions of the arrays of a batch.
        results: All measurements.
        advice: The recommendation.
        width: Columns of the terminal; None: the output is not a terminal.
    """
    notes = [_limit(results), *_crowd(results.measured[0]), advice.sentence]
    return [
        *folded(f"{name}: batches of {_bytes(results.batch_bytes)}{_arrays(arrays)}", width),
        "",
        *_costs(results),
        "",
        *_rates(results),
        "",
        *(line for text in notes for line in folded(text, width)),
    ]


def _arrays(arrays: Sequence[str]) -> str:
    shown = list(arrays[:_SHOWN_ARRAYS])
    if len(arrays) > _SHOWN_ARRAYS:
        shown.append(f"{len(arrays) - _SHOWN_ARRAYS} more arrays")
    return f": {', '.join(shown)}" if shown else ", without arrays"


def _costs(results: Results) -> list[str]:
    """Return the times of one batch, for the smallest number of worker processes that was measured."""
    processes = [one for one in results.measured if one.setting.workers and not one.setting.is_in_threads]
    rows = [["one batch", "ms"]]
    if processes:
        one = min(processes, key=lambda one: one.setting.workers)
        rows.append(["in the source, by a process", _ms(one.source_s)])
        stages = (("  of it joining samples", one.collate_s), ("  of it seeding random numbers", one.seed_s))
        rows += [[name, _ms(seconds)] for name, seconds in stages if seconds]
        rows.append(["into the ring, by a process", _ms(one.copy_s)])
    alone = results.measured[0]
    rows.append(["in the source, by the trainer", _ms(alone.source_s)])
    if alone.cpu_share is not None:
        rows.append(["  of it on a CPU", _ms(alone.source_s * min(1.0, alone.cpu_share))])
    if results.ideal:
        rows.append(["handed over, at best", _ms(1 / results.ideal)])
    return aligned(rows, (False, True))


def _rates(results: Results) -> list[str]:
    alone, best = results.measured[0], results.best
    rows = [["", "batches/s", "MB/s", "speed", "first batch", ""]]
    for one in results.measured:
        marks = ["enough"] if one is best else []
        marks += ["now"] if one.setting == results.present else []
        rows.append([*_row(one, results.batch_bytes, alone), ", ".join(marks)])
    if results.ideal:
        rows.append(["ideal loader", _rate(results.ideal), _mb(results.ideal, results.batch_bytes), "", "", ""])
    return aligned(rows, (False, True, True, True, True, False))


def _row(one: Measured, batch_bytes: int, alone: Measured) -> list[str]:
    speed = one.batches_per_s / alone.batches_per_s
    first = f"{1000 * one.first_s:,.0f} ms"
    return [str(one.setting), _rate(one.batches_per_s), _mb(one.batches_per_s, batch_bytes), f"{speed:.2f}", first]


def _limit(results: Results) -> str:
    best, most = results.best.setting, max(one.setting.workers for one in results.measured)
    if best.workers < most:
        return f"More workers than {best} do not improve the rate: up to {most} were tried."
    return f"More workers than {best} were not tried: these are not busy, or --most-workers must be higher."


def _crowd(alone: Measured) -> list[str]:
    """Return a warning if other programs had the CPUs."""
    share = alone.crowded_share or 0.0
    if share < _CROWDED:
        return []
    return [f"Other programs had the CPUs for {share:.0%} of the time: measure again when the machine is quiet."]


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:,.3f}"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _mb(rate: float, nbytes: int) -> str:
    return f"{rate * nbytes / 1e6:,.0f}"


def _bytes(nbytes: int) -> str:
    return f"{nbytes / 1e6:,.1f} MB" if nbytes >= 1e6 else f"{nbytes / 1e3:,.1f} kB"
