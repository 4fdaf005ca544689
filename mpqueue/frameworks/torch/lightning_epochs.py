"""Lightning, and the state of a loader: does its trainer ask at the end of an epoch? It is not imported for this.

Its fit loop saves the states of its loaders while a batch is trained. If that batch is the last of an epoch, it goes
on, after a resumption, with the next epoch: it takes that epoch's batches from the loader, and never asks for the end
of the pass before. A ``for`` loop of a program's own does ask, and is to find nothing left. The place in the pass is
the same for both, and would give Lightning an epoch without batches; with ``limit_train_batches``, the rest of the old
pass.

So who asks for a state is looked for among the callers, and whether its epoch is over by its own account.

The fit loop also asks for the first iterator of a run before it tells the sampler of the epoch (`set_epoch`). Of a run
that is resumed at the end of an epoch, that is not the first epoch: with a `DistributedSampler` the next one would have
the order of the first.
"""

import sys
from types import FrameType

_MODULES = frozenset({"lightning.pytorch.loops.fit_loop", "pytorch_lightning.loops.fit_loop"})


def is_at_end_of_epoch() -> bool:
    """Return True if a caller is the fit loop of Lightning, which saves a checkpoint at the last batch of an epoch."""
    caller = _caller("on_save_checkpoint")
    epoch_loop = None if caller is None else getattr(caller.f_locals.get("self"), "epoch_loop", None)
    return getattr(getattr(epoch_loop, "batch_progress", None), "is_last_batch", False) is True


def tells_epoch_later() -> bool:
    """Return True if a caller is the fit loop of Lightning, which asks for the first iterator of a run."""
    return _caller("setup_data") is not None


def _caller(method: str) -> FrameType | None:
    """Return the frame of this method of the fit loop, if it is a caller."""
    if not _MODULES.intersection(sys.modules):
        return None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == method and frame.f_globals.get("__name__") in _MODULES:
            return frame
        frame = frame.f_back
    return None
