"""Matplotlib, for pictures in files."""

from typing import Any

from mpqueue.commands import frame


def import_plots() -> Any:
    """Return Matplotlib's functions, which draw into files only.

    Raises:
        mpqueue.commands.frame.Missing: Matplotlib is not installed.
    """
    remedy = 'a picture needs matplotlib: pip install "mpqueue[plots]"'
    frame.import_extra("matplotlib", remedy).use("Agg")
    return frame.import_extra("matplotlib.pyplot", remedy)
