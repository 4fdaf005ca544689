"""Tells, once, that Keras has restored a backup of the model, and that the loader begins at its first batch.

``BackupAndRestore`` saves no state of the data: behind a crash `fit` goes on with the epoch in which it was, and a
loader that was told nothing gives the batches of its first epoch once more. Nobody sees that in a loss. So Keras's
``on_train_begin`` is replaced (by `mpqueue.system.replacement`) as long as there is an accelerated loader. Ours notes
that steps were restored, by the optimizer's count of them; the first epoch that a loader begins then is the one that
`fit` goes on with. A callback that has the loader go on from a state as well, as that of the guide does, does so
between the two, or before `fit`.
"""

from importlib import import_module
from typing import Any

from mpqueue.loader.loader import Loader
from mpqueue.system.log import warn
from mpqueue.system.replacement import Replacement

_num_steps = 0  # of the backup that was restored, until an epoch begins
_has_told = False


def watch(listener: Any) -> None:
    """Have backups that Keras restores noted as long as an object lives.

    Raises:
        ImportError: There is no Keras, or one without ``BackupAndRestore``.
    """
    _replacement.hold_for(listener)


def note_epoch(loader: Loader) -> None:
    """Say, once in a process, what comes twice, if `fit` goes on with a backup, and this loader with none."""
    global _num_steps, _has_told
    num_steps, _num_steps = _num_steps, 0
    if not num_steps or _has_told or loader._position.num_loads:
        return
    _has_told = True
    warn(
        f"Keras's BackupAndRestore goes on behind step {num_steps}, and {loader!r} begins at its first batch, since it "
        "was given no state: samples that were seen come again, in the order of the first epoch. Save "
        "loader.state_dict() with each backup, and load_state_dict() it in on_train_begin: the guide "
        '"Resume that is exact" has a class for that'
    )


def _on_train_begin(self: Any, logs: Any = None) -> None:
    global _num_steps
    before = _num_steps_of(self.model)
    _replacement.replaced(self, logs)
    after = _num_steps_of(self.model)
    _num_steps = after if after != before else 0


def _num_steps_of(model: Any) -> int:
    optimizer = getattr(model, "optimizer", None)
    return 0 if optimizer is None else int(optimizer.iterations)


def _callback() -> Any:
    return import_module("keras").callbacks.BackupAndRestore


_replacement = Replacement(__name__, _callback, "on_train_begin", _on_train_begin)
