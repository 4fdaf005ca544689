"""Keras's `BackupAndRestore` restores no place in the data; a loader that begins anew then says so."""

import pytest

pytest.importorskip("keras.utils")

import keras
import numpy as np
from helpers.fitting import BACKEND  # noqa: F401 - sets Keras's backend

from mpqueue import Loader
from mpqueue.frameworks.keras import backups
from mpqueue.keras import accelerate

PAIRS = [(np.full(4, number, "float32"), np.float32(number)) for number in range(12)]


class Killed(Exception):
    pass


class Kill(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == 4:
            raise Killed


class GoesOn(keras.callbacks.BackupAndRestore):
    """Has a loader go on as well."""

    def __init__(self, loader, state, folder):
        super().__init__(folder)
        self.loader, self.state = loader, state

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.loader.load_state_dict(self.state)


@pytest.fixture
def told(monkeypatch):
    """What was said."""
    found = []
    monkeypatch.setattr(backups, "warn", found.append)
    monkeypatch.setattr(backups, "_has_warned", False)
    yield found
    backups._num_steps = 0


@pytest.fixture
def backup(tmp_path, told):
    """The folder of a fit of three steps an epoch that was killed in its second epoch."""
    with Loader(PAIRS, batch_size=4, workers=0) as loader, pytest.raises(Killed):
        fit(loader, Kill(), keras.callbacks.BackupAndRestore(tmp_path / "backup"))
    assert told == []  # there was nothing to restore
    return tmp_path / "backup"


def fit(loader, *callbacks):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    model.fit(accelerate(loader), epochs=3, verbose=0, callbacks=list(callbacks))


def test_a_loader_that_begins_anew_behind_a_backup_says_so_once(backup, told):
    with Loader(PAIRS, batch_size=4, workers=0) as loader:
        with pytest.raises(Killed):
            fit(loader, keras.callbacks.BackupAndRestore(backup), Kill())
    assert len(told) == 1
    assert "continues after step 3" in told[0]
    assert "load_state_dict" in told[0]
    with Loader(PAIRS, batch_size=4, workers=0) as loader:
        fit(loader, keras.callbacks.BackupAndRestore(backup))
    assert len(told) == 1


def test_one_that_was_given_a_state_says_nothing(backup, told):
    with Loader(PAIRS, batch_size=4, workers=0) as loader:
        state = loader.state_dict()
        with pytest.raises(Killed):
            fit(loader, GoesOn(loader, state, backup), Kill())
    with Loader(PAIRS, batch_size=4, workers=0) as loader:
        loader.load_state_dict(state)
        fit(loader, keras.callbacks.BackupAndRestore(backup))
    assert told == []


def test_a_fit_after_that_is_no_resume(backup, told):
    with Loader(PAIRS, batch_size=4, workers=0) as loader:
        loader.load_state_dict(loader.state_dict())
        fit(loader, keras.callbacks.BackupAndRestore(backup))
    with Loader(PAIRS, batch_size=4, workers=0) as loader:
        fit(loader)
    assert told == []


def test_kerass_own_is_put_back_when_nobody_is_to_know():
    own = keras.callbacks.BackupAndRestore.on_train_begin
    with Loader(PAIRS, batch_size=4, workers=0) as loader:
        dataset = accelerate(loader)
        assert keras.callbacks.BackupAndRestore.on_train_begin is not own
        del dataset
    assert keras.callbacks.BackupAndRestore.on_train_begin is own
