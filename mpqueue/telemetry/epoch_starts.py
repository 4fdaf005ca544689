"""The parts of an epoch's start, and how to make each faster: for the warning and for the verdict."""

from collections.abc import Mapping
from typing import NamedTuple

from mpqueue.system.log import warn
from mpqueue.system.units import time_text

_NEGLIGIBLE = 0.1  # share of a start; shorter parts are not named


class PartText(NamedTuple):
    """A part of an epoch's start, for messages.

    Attributes:
        action: The activity.
        remedy: How to make it faster.
    """

    action: str
    remedy: str


PART_TEXTS = {
    "hook": PartText("on_epoch_end", "move work of on_epoch_end, which runs in the training process, to the workers"),
    "compare": PartText(
        "comparing the source with the workers' copy",
        "keep large data in files (np.memmap), in arrays or in shared memory instead of lists and dicts, or set "
        "constant = True on objects that do not change",
    ),
    "send": PartText(
        "sending the changed source",
        "change less of the source between epochs, or keep the data that changes in shared memory or in a file",
    ),
    "restart": PartText(
        "restarting the workers",
        "keep the data that changes between epochs in shared memory or in a file (workers receive up to 16 MiB without "
        'a restart), and use another start_method than "fork", whose workers are restarted for each epoch',
    ),
    "order": PartText(
        "the order of the samples", "make the sampler and the length of the source cheaper, or on_epoch_end"
    ),
    "launch": PartText(
        "starting the workers again",
        "keep the workers: create one Loader for all epochs, do not stop it in between, and pass "
        "persistent_workers=True to a torch DataLoader",
    ),
}


def slowest_of(parts_s: Mapping[str, float]) -> PartText:
    """Return the strings of the part that takes longest."""
    return PART_TEXTS[max(parts_s, key=lambda name: parts_s[name])]


def warn_of_start(epoch: int, parts_s: Mapping[str, float], notes: Mapping[str, str]) -> None:
    """Warn of a slow start of an epoch.

    Args:
        epoch: The epoch.
        parts_s: Seconds by part.
        notes: Details of some parts.
    """
    total_s = sum(parts_s.values())
    shown = []
    for name, seconds in sorted(parts_s.items(), key=lambda pair: -pair[1]):
        if seconds >= _NEGLIGIBLE * total_s:
            note = f" ({notes[name]})" if name in notes else ""
            shown.append(f"{time_text(seconds)} for {PART_TEXTS[name].action}{note}")
    warn(
        f"epoch {epoch} started {time_text(total_s)} late: {', '.join(shown)}. To start faster, "
        f"{slowest_of(parts_s).remedy}",
        "My training is slow",
        "Slow starts of epochs",
    )
