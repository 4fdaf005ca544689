"""Warn, once, if Keras restores a backup of the model while the loader begins at its first batch.

``BackupAndRestore`` saves no state of the data. After a crash, `fit` continues with that epoch, and a loader
without a state returns the batches of its first epoch again. The loss does not show that. So two methods of the
callback are replaced (by `mpqueue.system.user_code.replacement`) while there is an accelerated loader.
``on_train_begin`` detects by the optimizer's step count that steps were restored. If a loader begins an epoch before
the next step, `fit` continues with that epoch. After ``on_train_batch_end``, the epoch belongs to a validation or a
later `fit`. A callback that loads a state into the loader, as in the guide, runs before the first step, or before
`fit`.
"""

from importlib import import_module
from typing import Any

from mpqueue.loader.loader import Loader
from mpqueue.system.log import warn
from mpqueue.system.user_code.replacement import Replacement

_num_steps = 0  # of the restored backup, until an epoch begins or a step ends
_has_warned = False


def watch(listener: Any) -> None:
    """Detect backups that Keras restores while an object exists.

    Raises:
        ImportError: Keras is not installed, or has no ``BackupAndRestore``.
    """
    _replacement.hold_for(listener)
    _replaced_step.hold_for(listener)


def note_epoch(loader: Loader) -> None:
    """Log, once per process, which batches are repeated if `fit` continues from a backup, and this loader does not."""
    global _num_steps, _has_warned
    num_steps, _num_steps = _num_steps, 0
    if not num_steps or _has_warned or loader.is_resumed:
        return
    _has_warned = True
    warn(
        f"Keras's BackupAndRestore continues after step {num_steps}, and {loader!r} begins at its first batch, because "
        "no state was loaded: samples are repeated in the order of the first epoch. Save loader.state_dict() with each "
        "backup, and call load_state_dict() in on_train_begin",
        "Keras 3 and TensorFlow 2",
        "Resume",
    )


def _on_train_begin(self: Any, logs: Any = None) -> None:
    global _num_steps
    before = _num_steps_of(self.model)
    _replacement.replaced(self, logs)
    after = _num_steps_of(self.model)
    _num_steps = after if after != before else 0


def _on_train_batch_end(self: Any, batch: int, logs: Any = None) -> None:
    global _num_steps
    _num_steps = 0
    _replaced_step.replaced(self, batch, logs)


def _num_steps_of(model: Any) -> int:
    optimizer = getattr(model, "optimizer", None)
    return 0 if optimizer is None else int(optimizer.iterations)


def _callback() -> Any:
    return import_module("keras").callbacks.BackupAndRestore


_replacement = Replacement(__name__, _callback, "on_train_begin", _on_train_begin)
_replaced_step = Replacement(__name__, _callback, "on_train_batch_end", _on_train_batch_end)
