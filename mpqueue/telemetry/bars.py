"""Bars of tqdm, beside which a process may fork."""

from typing import Any


def bar_class() -> Any:
    """Return tqdm's bar: for the notebook if this is one."""
    from tqdm.auto import tqdm

    class UnmonitoredBar(tqdm):  # type: ignore[misc]  # tqdm has no types
        monitor_interval = 0  # no thread that looks after bars: workers may be forked beside it

    return UnmonitoredBar
