"""An exception of a signal handler while the error of a batch is unpickled: the error follows in its place."""

import os
import signal
from pathlib import Path

import pytest

from mpqueue import Loader


class Interrupted(Exception):
    """The error of a handler of user code."""


def strike(*_):
    raise Interrupted


def _again(path):
    """Unpickle an `Errs`; the first time in the trainer, send it a signal."""
    fuse = Path(path)
    if fuse.exists():
        trainer, number = map(int, fuse.read_text().split())
        if os.getpid() == trainer:
            fuse.unlink()
            signal.raise_signal(number)
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
def _handlers():
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGUSR1: strike}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGUSR1, Interrupted)])
@pytest.mark.usefixtures("_handlers")
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_error_is_raised_after_interrupt(tmp_path, on_error, number, kind):
    path = tmp_path / "fuse"
    path.write_text(f"{os.getpid()} {int(number)}")
    with Loader(Raising(Errs(str(path))), batch_size=None, workers=1, start_method="fork", on_error=on_error) as loader:
        batches = iter(loader)
        assert next(batches) == 0
        with pytest.raises(kind):
            next(batches)
        assert loader.state_dict()["position"] == 1
        if on_error == "raise":
            with pytest.raises(Errs):
                next(batches)
            assert loader.state_dict()["position"] == 2
        assert list(batches) == [2]


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
