"""Information for operators: warnings in the logger, names of processes, and tracebacks that show code sent by value."""

import linecache
import logging
import os
import pickle
import signal
import subprocess
import sys

import psutil
import pytest
from backends.test_fork_server import kill_fork_server
from helpers.computed_source import Computed
from helpers.faults import Fault, Numbers, StrikesAt, numbers
from helpers.one_epoch import one_epoch
from helpers.signal_handlers import raising
from helpers.started_enqueuer import started

from mpqueue import Loader
from mpqueue.backends.sending.source_send import take_image
from mpqueue.errors import BatchTimeout, WorkerDied


@pytest.fixture
def warnings(caplog):
    """The messages of all warnings in the package's logger."""
    caplog.set_level(logging.WARNING, logger="mpqueue")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "mpqueue"]


@pytest.mark.parametrize("method", ["forkserver", "fork"])
def test_crash_and_restart_are_one_warning_each(method, tmp_path, warnings):
    with started(StrikesAt(Fault("sigkill", tmp_path / "fuse")), 1, 4, start_method=method) as enqueuer:
        assert numbers(enqueuer.get(), 16) == 2 * list(range(8))
    death, restart = warnings()
    assert "worker 0 died by SIGKILL while it computed index 3 of epoch 0" in death
    assert "it was killed" not in death
    assert restart == "worker 0 was restarted"


ALWAYS_DYING = StrikesAt(Fault("sigkill"), length=12)


@pytest.mark.parametrize("options", [{"batch_size": 4, "shuffle": True}, {"batch_sampler": [[4, 1], [3]]}], ids=str)
def test_crash_names_the_samples_of_its_batch(options, warnings):
    with Loader(ALWAYS_DYING, workers=1, restarts=0, seed=5, **options) as loader:
        with pytest.raises(WorkerDied) as caught:
            list(loader)
        error = pickle.loads(pickle.dumps(caught.value))
        assert 3 in error.samples
        assert error.samples == loader.explain(0, error.index).samples
    text = f"while it computed batch {error.index} of epoch 0 (samples {', '.join(map(str, error.samples))});"
    assert text in str(error)
    assert text in warnings()[0]


def test_crash_over_a_single_item_names_only_its_index():
    with pytest.raises(WorkerDied) as caught:
        one_epoch(ALWAYS_DYING, workers=1, restarts=0)
    assert caught.value.samples == ()
    assert "index 3 of epoch 0;" in str(caught.value)


def test_crash_is_reported_without_samples_if_the_source_raises_for_them(monkeypatch):
    monkeypatch.setattr("mpqueue.plan.sources.sources.ItemIds.of", raising(OSError("no samples")))
    with pytest.raises(WorkerDied, match="index 0 of epoch 0;"):
        one_epoch(ALWAYS_DYING, workers=1, restarts=0, batch_size=4)


def test_message_of_a_crash_names_only_the_first_samples_of_a_large_batch():
    error = WorkerDied(0, 1, 2, 0, samples=tuple(range(100)))
    assert str(error).endswith(
        "batch 2 of epoch 0 (samples 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, and 84 more)"
    )


def test_kill_of_a_hanging_worker_is_a_warning_with_the_reason(tmp_path, warnings):
    source = StrikesAt(Fault("sigstop", tmp_path / "fuse"))
    with started(source, 1, 4, batch_timeout=1.0) as enqueuer:
        assert numbers(enqueuer.get(), 8) == list(range(8))
    assert "it was killed, because a batch exceeded `batch_timeout`" in warnings()[0]


def test_crash_of_a_fork_server_is_one_warning_plus_one_per_restarted_worker(warnings):
    with started(Numbers(), 2) as enqueuer:
        batches = enqueuer.get()
        assert numbers(batches, 8) == list(range(8))
        kill_fork_server()
        assert numbers(batches, 16) == 2 * list(range(8))
    death, *restarts = warnings()
    assert "the fork server, which starts the workers, died by SIGKILL, and its 2 workers with it" in death
    assert restarts == ["worker 0 was restarted", "worker 1 was restarted"]


def names(_):
    """Return the name of this process, and of its parent process."""
    return psutil.Process().name(), psutil.Process(os.getppid()).name()


@pytest.mark.sample(1)
@pytest.mark.parametrize("method", ["forkserver", "fork", "spawn"])
def test_processes_have_names_in_ps(method):
    found = one_epoch(Computed(names), workers=2, start_method=method)
    assert {worker for worker, _ in found} <= {"mpqueue-worker0", "mpqueue-worker1"}
    if method != "fork":
        assert {parent for _, parent in found} == {"mpqueue-forksrv"}


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
