"""tqdm progress bars that do not prevent a fork."""

from typing import Any


def bar_class() -> Any:
    """Return tqdm's class of bars, or its notebook version in a notebook."""
    from tqdm.auto import tqdm

    class UnmonitoredBar(tqdm):  # type: ignore[misc]  # tqdm has no types
        monitor_interval = 0  # no monitoring thread, which would prevent workers from being forked

    return UnmonitoredBar
