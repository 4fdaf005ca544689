"""Tracebacks and stacks of workers show the file, the line and the source of code that was sent by value."""

import linecache
import os
import pickle
import signal
import subprocess
import sys

import pytest
from helpers.computed_source import Computed
from helpers.one_epoch import one_epoch

from mpqueue.backends.sending.source_send import take_image
from mpqueue.errors import BatchTimeout

HERE = __file__.encode("ascii", "backslashreplace").decode("ascii")  # as `faulthandler` writes it
FRESH = pytest.mark.parametrize("method", ["forkserver", "spawn"])


def cause_of(function, method):
    with pytest.raises(KeyError) as raised:
        one_epoch(Computed(function, 1), workers=1, start_method=method)
    return str(raised.value.__cause__)


@FRESH
def test_traceback_shows_the_line_of_a_lambda(method):
    shown = cause_of(lambda index: {}["missing"], method)
    assert f'File "{__file__}", line ' in shown
    assert 'shown = cause_of(lambda index: {}["missing"], method)' in shown


def of_cell(monkeypatch):
    """Return a function of a notebook cell; only this process knows its lines."""
    lines = ["def fail(index):\n", "    return {}[index]  # of a cell\n"]
    monkeypatch.setitem(linecache.cache, "/nowhere/cell.py", (1, None, lines, "/nowhere/cell.py"))
    names = {"__name__": "nowhere"}
    exec(compile("".join(lines), "/nowhere/cell.py", "exec"), names)
    return names["fail"]


@FRESH
def test_traceback_shows_the_line_of_a_notebook_cell(method, monkeypatch):
    shown = cause_of(of_cell(monkeypatch), method)
    assert 'File "/nowhere/cell.py", line 2, in fail\n    return {}[index]  # of a cell\n' in shown


def test_traceback_on_another_machine_shows_lines_of_files_that_it_lacks(tmp_path):
    path = tmp_path / "script.py"
    path.write_text("def fail(index):\n    return {}[index]  # of a file\n")
    names = {"__name__": "nowhere"}
    exec(compile(path.read_text(), path, "exec"), names)
    image = take_image(names["fail"], is_local=False)
    path.unlink()
    code = """
import pickle, sys, traceback
try:
    pickle.loads(sys.stdin.buffer.read())(0)
except KeyError:
    traceback.print_exc()
"""
    done = subprocess.run([sys.executable, "-c", code], input=image.data, capture_output=True, check=True)
    assert f'File "{path}", line 2, in fail\n    return {{}}[index]  # of a file\n' in done.stderr.decode()


def test_stacks_of_a_hanging_worker_show_the_file_of_a_closure():
    signals = {signal.SIGUSR1}  # nothing sends it

    def hang(index):
        signal.sigwait(signals)

    with pytest.raises(BatchTimeout) as raised:
        one_epoch(Computed(hang, 1), workers=1, batch_timeout=1.0, restarts=0)
    assert f'File "{HERE}", line {hang.__code__.co_firstlineno + 1} in hang' in str(raised.value)


def test_crash_report_shows_the_file_of_a_closure(capfd):
    signal_number = 11

    def crash(index):
        os.kill(os.getpid(), signal_number)
        signal.pause()

    with pytest.raises(Exception, match="SIGSEGV"):
        one_epoch(Computed(crash, 1), workers=1, restarts=0)
    assert f'File "{HERE}", line {crash.__code__.co_firstlineno + 1} in crash' in capfd.readouterr().err


def test_unchanged_source_has_the_same_image(monkeypatch):
    function = of_cell(monkeypatch)
    assert take_image(function).data == take_image(function).data
    assert pickle.loads(take_image(function).data).__code__.co_filename == "/nowhere/cell.py"
