"""Detect whether Lightning's trainer requests a loader's state at the end of an epoch, without importing Lightning.

Lightning's fit loop saves the states of its loaders while it trains on a batch. If this is the last batch of an epoch,
a resumed run continues with the next epoch: it takes that epoch's batches from the loader, and never requests the end
of the previous pass. A ``for`` loop of a program, in contrast, requests the end, and must get no more batches. Both
have the same place in the pass. With this position, Lightning would get an epoch without batches, or with
``limit_train_batches`` the rest of the old pass.

So this module looks for the fit loop among the callers, and checks whether its epoch is over.

The fit loop also requests the first iterator of a run before it sets the sampler's epoch (`set_epoch`). If a run is
resumed at the end of an epoch, this is not the first epoch. With a `DistributedSampler`, the next epoch would have the
order of the first.
"""

from mpqueue.system.callers import frame_of

_MODULES = "lightning.pytorch.loops.fit_loop", "pytorch_lightning.loops.fit_loop"


def is_at_end_of_epoch() -> bool:
    """Return True if called by Lightning's fit loop while it saves a checkpoint at the last batch of an epoch."""
    caller = frame_of("on_save_checkpoint", *_MODULES)
    epoch_loop = None if caller is None else getattr(caller.f_locals.get("self"), "epoch_loop", None)
    return getattr(getattr(epoch_loop, "batch_progress", None), "is_last_batch", False) is True


def sets_epoch_later() -> bool:
    """Return True if called by Lightning's fit loop while it requests the first iterator of a run."""
    return frame_of("setup_data", *_MODULES) is not None
