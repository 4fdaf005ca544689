"""Lightning, and the state of a loader: does its trainer ask at the end of an epoch? It is not imported for this.

Its fit loop saves the states of its loaders while a batch is trained. If that batch is the last of an epoch, it goes
on, after a resumption, with the next epoch: it takes that epoch's batches from the loader, and never asks for the end
of the pass before. A ``for`` loop of a program's own does ask, and is to find nothing left. The place in the pass is
the same for both, and would give Lightning an epoch without batches; with ``limit_train_batches``, the rest of the old
pass.

So who asks for a state is looked for among the callers, and whether its epoch is over by its own account.
"""

import sys
from types import FrameType

_MODULES = frozenset({"lightning.pytorch.loops.fit_loop", "pytorch_lightning.loops.fit_loop"})


def is_at_end_of_epoch() -> bool:
    """Return True if a caller is the fit loop of Lightning, which saves a checkpoint at the last batch of an epoch."""
    if not _MODULES.intersection(sys.modules):
        return False
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "on_save_checkpoint" and frame.f_globals.get("__name__") in _MODULES:
            epoch_loop = getattr(frame.f_locals.get("self"), "epoch_loop", None)
            return getattr(getattr(epoch_loop, "batch_progress", None), "is_last_batch", False) is True
        frame = frame.f_back
    return False
