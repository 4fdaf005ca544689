"""Detect whether Lightning's trainer requests a loader's state at the end of an epoch, without importing Lightning.

Lightning's fit loop saves the states of its loaders while it trains on a batch. If this is the last batch of an epoch,
a resumed run continues with the next epoch: it takes that epoch's batches from the loader, and never requests the end
of the previous pass. A ``for`` loop of a program, in contrast, requests the end, and must get no more batches. Both
have the same place in the pass. With this place, Lightning would get an epoch without batches, or with
``limit_train_batches`` the rest of the old pass.

So this module looks for the fit loop among the callers, and checks whether its epoch is over.

The fit loop also requests the first iterator of a run before it sets the sampler's epoch (`set_epoch`). If a run is
resumed at the end of an epoch, this is not the first epoch. With a `DistributedSampler`, the next epoch would have the
order of the first.
"""

import sys
from types import FrameType

_MODULES = frozenset({"lightning.pytorch.loops.fit_loop", "pytorch_lightning.loops.fit_loop"})


def is_at_end_of_epoch() -> bool:
    """Return True if called by Lightning's fit loop while it saves a checkpoint at the last batch of an epoch."""
    caller = _caller("on_save_checkpoint")
    epoch_loop = None if caller is None else getattr(caller.f_locals.get("self"), "epoch_loop", None)
    return getattr(getattr(epoch_loop, "batch_progress", None), "is_last_batch", False) is True


def sets_epoch_later() -> bool:
    """Return True if called by Lightning's fit loop while it requests the first iterator of a run."""
    return _caller("setup_data") is not None


def _caller(method: str) -> FrameType | None:
    """Return the frame of a method of the fit loop; None: it is not a caller."""
    if not _MODULES.intersection(sys.modules):
        return None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == method and frame.f_globals.get("__name__") in _MODULES:
            return frame
        frame = frame.f_back
    return None
