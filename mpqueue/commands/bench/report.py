"""The text of ``mpqueue bench``."""

from collections.abc import Sequence

from mpqueue.commands.bench.advice import Advice
from mpqueue.commands.bench.measure import Results
from mpqueue.commands.frame import aligned, folded
from mpqueue.system.units import rate_text, size_text

_SHOWN_ARRAYS = 4


def lines(name: str, arrays: Sequence[str], results: Results, advice: Advice, width: int | None = None) -> list[str]:
    """Return the report: the batch, the rates, its costs, the limit of the search, and the recommendation.

    Args:
        name: Name of the factory.
        arrays: Descriptions of the arrays of a batch.
        results: All measurements.
        advice: The recommendation.
        width: Columns of the terminal; None: the output is not a terminal.
    """
    notes = [_costs(results), _limit(results), advice.sentence]
    return [
        *folded(f"{name}: batches of {size_text(results.batch_bytes)}{_arrays(arrays)}", width),
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


def _costs(results: Results) -> str:
    """Return the times of one batch, for the smallest number of workers that was measured."""
    one = min(results.measured[1:], key=lambda one: one.setting.workers)
    times = f"{1000 * one.source_s:,.3g} ms in the source and {1000 * one.copy_s:,.3g} ms for the copy into the ring"
    return f"With {one.setting}, a batch takes {times}."


def _rates(results: Results) -> list[str]:
    rows = [["", "batches/s", "MB/s", "speed", "first batch", ""]]
    for one in results.measured:
        rate = one.batches_per_s
        marks = ["enough"] if one is results.best else []
        marks += ["now"] if one.setting == results.present else []
        megabytes, speed = rate * results.batch_bytes / 1e6, rate / results.measured[0].batches_per_s
        figures = [rate_text(rate), f"{megabytes:,.0f}", f"{speed:.2f}", f"{1000 * one.first_s:,.0f} ms"]
        rows.append([str(one.setting), *figures, ", ".join(marks)])
    return aligned(rows, (False, True, True, True, True, False))


def _limit(results: Results) -> str:
    best, most = results.best.setting, max(one.setting.workers for one in results.measured)
    if best.workers < most:
        return f"More workers than {best} do not improve the rate: up to {most} were tried."
    return f"More workers than {best} were not tried: these are not busy, or --most-workers must be higher."
