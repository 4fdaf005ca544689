"""Standard streams that the program has closed, set to None or replaced: no loader fails because of them."""

import io
import logging
import os
import sys
import warnings

import numpy as np
import pytest
from helpers.faults import Fault, StrikesAt
from helpers.one_epoch import one_epoch

import mpqueue
from mpqueue.system import log
from mpqueue.system.processes.exit import leave_as_child
from mpqueue.system.program_streams import flush_streams, warn_caller, write_error

pytestmark = pytest.mark.sample(2)


class Tee:
    """A stream without ``flush``."""

    def __init__(self, stream):
        self.stream = stream

    def write(self, text):
        self.stream.write(text)


class Full(io.StringIO):
    def flush(self):
        raise RuntimeError("this stream of the program fails")


def closed():
    stream = io.TextIOWrapper(io.BytesIO())
    stream.close()
    return stream


LOST = {"closed": closed, "None": lambda: None, "object": object, "tee to a closed file": lambda: Tee(closed())}
STREAMS = LOST | {"without flush": lambda: Tee(io.StringIO()), "flush raises": Full}
each_stream = pytest.mark.parametrize("kind", STREAMS)
each_lost = pytest.mark.parametrize("kind", LOST)


@pytest.fixture
def lone_logger():
    """The package's logger with a handler that writes to the standard error, as in a program without pytest."""
    logger = logging.getLogger("mpqueue")
    logger.addHandler(logging.lastResort)
    logger.propagate = False
    yield
    logger.propagate = True
    logger.removeHandler(logging.lastResort)


@pytest.mark.parametrize("method", ["forkserver", "fork"])
@each_stream
def test_workers_start_and_are_replaced(kind, method, monkeypatch, tmp_path, lone_logger):
    monkeypatch.setattr(sys, "stdout", STREAMS[kind]())
    monkeypatch.setattr(sys, "stderr", STREAMS[kind]())
    source = StrikesAt(Fault("sigkill", tmp_path / "fuse"), 2, 4)
    with mpqueue.Loader(source, workers=1, start_method=method) as loader:
        assert [int(batch[0]) for batch in loader] == [0, 1, 2, 3]
        assert loader.statistics().deaths == 1


@each_stream
def test_child_of_user_code_keeps_its_exit_status(kind, monkeypatch):
    child = os.fork()
    if child == 0:
        sys.stdout, sys.stderr = STREAMS[kind](), STREAMS[kind]()
        leave_as_child(ValueError())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


@each_lost
def test_messages_to_a_lost_stream_are_dropped(kind, monkeypatch, lone_logger):
    monkeypatch.setattr(sys, "stderr", LOST[kind]())
    log.warn("a message")
    write_error("a traceback")
    monkeypatch.setattr(warnings, "showwarning", lambda *_: sys.stderr.write("a warning"))  # in place of pytest's
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warn_caller("a warning", RuntimeWarning)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="a warning"):
            warn_caller("a warning", RuntimeWarning)


def test_warning_names_the_line_of_the_caller():
    with pytest.warns(RuntimeWarning, match="a warning") as caught:
        warn_caller("a warning", RuntimeWarning)
    assert caught[0].filename == __file__


def test_error_of_a_handler_is_raised(monkeypatch, lone_logger):
    class Strict(logging.Handler):
        def emit(self, record):
            raise LookupError(record.getMessage())

    monkeypatch.setattr(logging.getLogger("mpqueue"), "handlers", [Strict()])
    with pytest.raises(LookupError, match="a message"):
        log.warn("a message")


def test_streams_are_flushed(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", closed())
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw))
    sys.stderr.write("text")
    flush_streams()
    assert raw.getvalue() == b"text"


@each_lost
def test_progress_bar_without_a_stream_is_disabled(kind, monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys, "stderr", LOST[kind]())
    assert [int(number) for number in one_epoch(np.arange(3), workers=0, progress=True)] == [0, 1, 2]
