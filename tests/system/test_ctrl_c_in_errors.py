"""An exception of a signal handler while the error of a batch is unpickled: the error then follows at its place."""

import os
import signal
from pathlib import Path

import pytest
from helpers.computed_source import Computed
from helpers.signal_handlers import handling, raising

from mpqueue import Loader

pytestmark = pytest.mark.shared_fork_server


class Interrupted(Exception):
    """The error of a handler of user code."""


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


def source_of(error):
    def item(index):
        if index == 1:
            raise error
        return index

    return Computed(item, 3)


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGUSR1, Interrupted)])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_error_is_raised_after_interrupt(tmp_path, on_error, number, kind):
    path = tmp_path / "fuse"
    path.write_text(f"{os.getpid()} {int(number)}")
    options = {"workers": 1, "start_method": "fork", "on_error": on_error}
    with handling(raising(Interrupted), signal.SIGUSR1), Loader(source_of(Errs(str(path))), **options) as loader:
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
    source = source_of(KeyboardInterrupt())
    with Loader(source, workers=1, backend=backend, on_error=on_error) as loader:
        batches = iter(loader)
        assert next(batches) == 0
        with pytest.raises(KeyboardInterrupt):
            next(batches)
        assert list(batches) == [2]
