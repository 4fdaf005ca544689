"""Ctrl-C, by Python's own handler, while the error of a batch is unpickled: the error follows in its place."""

import os
import signal
from pathlib import Path

import pytest

from mpqueue import Loader


def _again(path):
    """Unpickle an `Errs`; the first time in the trainer, raise Ctrl-C."""
    trainer = Path(path)
    if trainer.exists() and os.getpid() == int(trainer.read_text()):
        trainer.unlink()
        signal.raise_signal(signal.SIGINT)
    return Errs(path)


class Errs(Exception):
    def __reduce__(self):
        return _again, self.args


class Raising:
    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index == 1:
            raise self.error
        return index


@pytest.fixture
def plain_ctrl_c():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("plain_ctrl_c")
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_error_is_raised_after_ctrl_c(tmp_path, on_error):
    path = tmp_path / "trainer"
    path.write_text(str(os.getpid()))
    with Loader(Raising(Errs(str(path))), batch_size=None, workers=1, start_method="fork", on_error=on_error) as loader:
        batches = iter(loader)
        assert next(batches) == 0
        with pytest.raises(KeyboardInterrupt):
            next(batches)
        assert loader.state_dict()["position"] == 1
        if on_error == "raise":
            with pytest.raises(Errs):
                next(batches)
            assert loader.state_dict()["position"] == 2
        assert list(batches) == [2]


@pytest.mark.usefixtures("plain_ctrl_c")
@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("backend", ["process", "thread"])
def test_keyboard_interrupt_of_worker_is_raised_once(backend, on_error):
    source = Raising(KeyboardInterrupt())
    with Loader(source, batch_size=None, workers=1, backend=backend, on_error=on_error) as loader:
        batches = iter(loader)
        assert next(batches) == 0
        with pytest.raises(KeyboardInterrupt):
            next(batches)
        assert list(batches) == [2]
