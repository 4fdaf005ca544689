"""Keras's `BackupAndRestore` restores no place in the data; a loader that begins at its first batch logs a warning."""

import pytest

pytest.importorskip("keras.utils")

import keras
import numpy as np
from helpers.keras_fits import BACKEND  # noqa: F401 - sets Keras's backend

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
    """Loads a state into a loader as well."""

    def __init__(self, loader, state, folder):
        super().__init__(folder)
        self.loader, self.state = loader, state

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.loader.load_state_dict(self.state)


@pytest.fixture
def messages(monkeypatch):
    """The logged warnings."""
    found = []
    monkeypatch.setattr(backups, "warn", lambda text, *page: found.append(text))
    monkeypatch.setattr(backups, "_has_warned", False)
    monkeypatch.setattr(backups, "_num_steps", 0)
    return found


@pytest.fixture
def backup(tmp_path, messages):
    """The folder of a fit with three steps per epoch that was killed in its second epoch."""
    with Loader(PAIRS, batch_size=4, workers=0) as loader, pytest.raises(Killed):
        fit(loader, Kill(), keras.callbacks.BackupAndRestore(tmp_path / "backup"))
    assert messages == []  # there was no backup to restore
    return tmp_path / "backup"


def make_model():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def fit(loader, *callbacks):
    make_model().fit(accelerate(loader), epochs=3, verbose=0, callbacks=list(callbacks))


def test_loader_restarted_after_a_backup_warns_once(backup, messages):
    with Loader(PAIRS, batch_size=4, workers=0) as loader:
        with pytest.raises(Killed):
            fit(loader, keras.callbacks.BackupAndRestore(backup), Kill())
    assert len(messages) == 1
    assert "continues after step 3" in messages[0]
    assert "load_state_dict" in messages[0]
    with Loader(PAIRS, batch_size=4, workers=0) as loader:
        fit(loader, keras.callbacks.BackupAndRestore(backup))
    assert len(messages) == 1


def test_loader_with_a_state_does_not_warn(backup, messages):
    with Loader(PAIRS, batch_size=4, workers=0) as loader:
        state = loader.state_dict()
        with pytest.raises(Killed):
            fit(loader, GoesOn(loader, state, backup), Kill())
    with Loader(PAIRS, batch_size=4, workers=0) as loader:
        loader.load_state_dict(state)
        fit(loader, keras.callbacks.BackupAndRestore(backup))
    assert messages == []


def test_later_fit_does_not_count_as_a_resume(backup, messages):
    with Loader(PAIRS, batch_size=4, workers=0) as loader:
        loader.load_state_dict(loader.state_dict())
        fit(loader, keras.callbacks.BackupAndRestore(backup))
    with Loader(PAIRS, batch_size=4, workers=0) as loader:
        fit(loader)
    assert messages == []


def test_validation_by_a_loader_does_not_count_as_a_resume(backup, messages):
    inputs, outputs = map(np.array, zip(*PAIRS, strict=True))
    restored = keras.callbacks.BackupAndRestore(backup)
    with Loader(PAIRS, batch_size=4, workers=0) as loader:
        make_model().fit(
            inputs, outputs, batch_size=4, epochs=3, verbose=0, callbacks=[restored], validation_data=accelerate(loader)
        )
    assert messages == []
