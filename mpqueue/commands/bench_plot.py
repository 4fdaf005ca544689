"""The picture of ``mpqueue bench --plot``: rates over workers, the ideal loader, and the knee."""

from typing import Any

from mpqueue.commands.bench_advice import Advice, Results
from mpqueue.commands.plots import import_plots

_COLOURS = {"process": "#1f6feb", "thread": "#d2691e"}
_FAR_ABOVE = 2.0
_NAMES = {"process": "processes", "thread": "threads"}


def draw(results: Results, advice: Advice, path: str, title: str) -> None:
    """Write the picture to a file, in the format of its suffix.

    Raises:
        mpqueue.commands.frame.Missing: Matplotlib is not installed.
        OSError: The file cannot be written.
        ValueError: There is no such format.
    """
    plots = import_plots()
    figure, axes = plots.subplots(figsize=(7, 4), layout="constrained")
    alone = results.measured[0]
    for backend, colour in _COLOURS.items():
        own = [one for one in results.measured if one.setting.backend == backend]
        if own:
            points = [alone, *own]
            axes.plot(
                [one.setting.workers for one in points],
                [one.batches_per_s for one in points],
                "o-",
                color=colour,
                label=_NAMES[backend],
            )
    best = results.best
    axes.plot(best.setting.workers, best.batches_per_s, "o", ms=14, mfc="none", mec="black", label="enough")
    if results.ideal is not None and results.ideal < 10 * best.batches_per_s:
        axes.axhline(results.ideal, ls="--", color="grey", label="ideal: a batch from memory")
    if results.step_s is not None:
        _draw_step(axes, 1 / results.step_s, max(one.batches_per_s for one in results.measured))
    axes.set(xlabel="workers", ylabel="batches/s", title=f"{title}: {advice.bottleneck} is the bottleneck")
    axes.set_ylim(0, 1.08 * axes.get_ylim()[1])  # room for the circle
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=130)
    plots.close(figure)


def _draw_step(axes: Any, rate: float, highest: float) -> None:
    """Draw what the training step takes; where that is far above all, it is only told: the curves would lie flat."""
    if rate <= _FAR_ABOVE * highest:
        axes.axhline(rate, ls=":", color="green", label="the training step takes")
    else:
        axes.plot([], [], ls=":", color="green", label=f"above: {rate:,.0f}, which the training step takes")
