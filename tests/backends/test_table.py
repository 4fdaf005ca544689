"""Every cell of the table: the stream is complete, in order and unchanged, or ends with the expected error."""

import contextlib
import os
import select
import signal
import sys
import threading

import pytest
from helpers.declared_hangs import TIMEOUT_S, DeclaredHangs, judge_by
from helpers.engine_parts import pipeline_of
from helpers.fault_table import AT, CELLS, HANGING, LENGTH, PAUSING, PROCESSES, RAISING, outcome_of
from helpers.faults import Fault, numbers, released
from helpers.faulty_source import Faulty, FaultyEpochs, WorkerInit
from helpers.footprint import DEADLOCK_S
from helpers.gates import Gate
from helpers.trainer_processes import ran
from helpers.waits import comes_true, until
from helpers.wrapped_functions import wrap

import mpqueue
from mpqueue import OrderedEnqueuer
from mpqueue.backends.processes.roster import Roster
from mpqueue.errors import BatchTimeout, WorkerDied

pytestmark = [pytest.mark.sample(1), pytest.mark.shared_fork_server]

_WITH_EPOCHS = {"epoch-end", "on-epoch-end", "push-to-fork_server", "push-to-worker"}
# One worker only, or the outcome depends on which worker is struck.
_OF_ALL_WORKERS = {"unpickling", "worker-init", "push-to-worker"}


@pytest.fixture(autouse=True)
def _releases_loops():
    released.clear()
    yield
    released.set()


class Enough(BaseException):
    """An exception of a signal handler."""


class Cell:
    """One fault at its place, with a consumer."""

    def __init__(self, place, kind, backend, folder, *, once=True, **options):
        self.place, self.kind, self.backend, self.folder = place, kind, backend, folder
        self.fuse, self.hanging = folder / "fuse", DeclaredHangs(folder / "hanging")
        self.gate = Gate()
        make = FaultyEpochs if place in _WITH_EPOCHS else Faulty
        fault = Fault(kind, self.fuse if once else None, self.hanging)
        at_gate = place in ("idle", "epoch-end") or (place == "stopping" and backend == "thread")
        self.source = make(place, fault, self.gate.address if at_gate else None)
        if backend in PROCESSES:
            options["start_method"] = backend
        if kind in HANGING:
            # Threads cannot be judged from outside.
            options["batch_timeout"] = TIMEOUT_S if backend in PROCESSES else 1.0
        options["worker_init"] = WorkerInit(self.source, folder / "pid")
        self.enqueuer = OrderedEnqueuer(self.source, backend in PROCESSES, **options)
        self.found = []

    def start(self):
        workers = 1 if self.backend == "spawn" or self.place in _OF_ALL_WORKERS else 2
        self.enqueuer.start(0 if self.backend == "inline" else workers, 4)

    def take(self, count):
        for _ in range(count):
            self.found += numbers(self.enqueuer.get(), 1)

    def strike_worker(self):
        """Strike worker 0 in any state; return when it has exited, if it does."""
        pid = int((self.folder / "pid").read_text())
        sentinel = os.pidfd_open(pid)
        os.kill(pid, signal.SIGUSR1)
        self.gate.arrival().let_go()
        if self.kind not in PAUSING + HANGING:
            assert select.select([sentinel], [], [], DEADLOCK_S)[0]
        os.close(sentinel)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        released.set()
        self.enqueuer.stop()
        self.gate.__exit__()


def _run(cell):
    """The whole run of the consumer: an epoch, the next one, and the end."""
    cell.start()
    if cell.place == "stopping" and cell.backend == "thread":
        cell.take(AT)
        arrival = cell.gate.arrival()
        cell.enqueuer.stop()
        arrival.let_go()
        until(cell.fuse.exists, "the thread remains between the gate and the strike")
        return
    if cell.place == "idle":
        cell.take(1)
        pipeline_of(cell.enqueuer).dealing.pause()
        cell.strike_worker()
        pipeline_of(cell.enqueuer).dealing.resume()
    if cell.place == "epoch-end":
        cell.source.meanwhile = cell.strike_worker
    cell.take(2 * LENGTH - len(cell.found))
    cell.enqueuer.stop()


def _expected(cell):
    step = 100 if cell.place in _WITH_EPOCHS else 0
    return [step * epoch + index for epoch in range(2) for index in range(LENGTH)]


def _cell(place, kind, backend):
    """Return a test's parameters. Start methods differ only in the start of a worker."""
    marks = [pytest.mark.slow] if backend in ("fork", "spawn") else []
    return pytest.param(place, kind, backend, id=f"{place}-{kind}-{backend}", marks=marks)


@pytest.mark.parametrize(("place", "kind", "backend"), [_cell(*cell) for cell in CELLS])
def test_cell(place, kind, backend, tmp_path, monkeypatch):
    if kind in PAUSING and backend in ("thread", "inline"):
        _test_pause_here(place, backend)
        return
    _hurry(monkeypatch)
    if place == "stopping":
        _let_strike(tmp_path / "fuse", monkeypatch)
    if place == "forkserver":
        _strike_at_start_of_fork_server(kind, tmp_path, monkeypatch)
    expected, after = outcome_of(place, kind, backend)
    once = place != "pickling-batch" or kind not in RAISING  # cloudpickle tries again after an error of pickle
    with Cell(place, kind, backend, tmp_path, once=once) as cell:
        judge_by(cell.hanging, monkeypatch)
        error = _outcome(cell, interrupt=expected == "Enough")
        if expected is None:
            is_cut = place == "stopping" and backend == "thread"
            assert error is None, error
            assert cell.found == _expected(cell)[: AT if is_cut else None]
        else:
            assert type(error).__name__ == expected
            assert cell.found == _expected(cell)[:after]
        assert cell.fuse.exists() or not once, "it never struck"
        # SystemExit in the trainer's own process is a request to exit: like an interrupt, it does not stop the workers.
        assert not cell.enqueuer.is_running() or expected == "SystemExit"
        cell.enqueuer.stop()
        _test_it_continues(cell)


def _hurry(monkeypatch):
    monkeypatch.setattr("mpqueue.backends.processes.hang._DUMP_S", 0.05)
    monkeypatch.setattr("mpqueue.backends.processes.roster._TERM_S", 0.2)


def _let_strike(fuse, monkeypatch):
    """Make `stop` wait until a worker has struck, however long that takes."""
    wrap(monkeypatch, Roster, "signal", lambda send, *given: comes_true(fuse.exists) and send(*given))


def _outcome(cell, *, interrupt):
    try:
        with _Interrupt(cell.fuse) if interrupt else contextlib.nullcontext():
            _run(cell)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | pytest.fail.Exception | AssertionError):
            raise
        return error
    return None


def _test_it_continues(cell):
    """The fuse has burnt: the same enqueuer yields its stream."""
    cell.source.epoch = 0
    cell.source.place = "nowhere"
    cell.enqueuer.start(0 if cell.backend == "inline" else 1, 4)
    assert numbers(cell.enqueuer.get(), LENGTH) == list(range(LENGTH))
    cell.enqueuer.stop()


class _Interrupt:
    """Interrupts the main thread after the fuse has burnt."""

    def __init__(self, fuse):
        self.fuse, self.has_run = fuse, threading.Event()

    def __enter__(self):
        self.previous = signal.signal(signal.SIGUSR2, self._raise)
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()

    def _raise(self, *_):
        if not self.has_run.is_set():
            self.has_run.set()
            raise Enough

    def _watch(self):
        # Repeatedly: an interrupt just before a system call blocks is only handled after it.
        while not self.has_run.wait(0.02):
            if self.fuse.exists():
                signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR2)

    def __exit__(self, *_):
        self.has_run.set()
        self.thread.join()
        signal.signal(signal.SIGUSR2, self.previous)


def _strike_at_start_of_fork_server(kind, folder, monkeypatch):
    """Python imports `sitecustomize` when an interpreter starts."""
    mpqueue.shutdown()
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(
        "import sys\n"
        f"if any('fork_server' in word for word in sys.orig_argv): sys.path.insert(0, {os.path.dirname(os.path.dirname(__file__))!r}); "
        f"from helpers.faults import Fault; Fault({kind!r}, {str(folder / 'fuse')!r})()\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder / "site"), os.environ.get("PYTHONPATH", "")]))


def _test_pause_here(place, backend):
    """In a separate trainer, because the test itself must not be stopped."""
    said, _ = ran(f"""
        from helpers.faults import Fault, numbers
        from helpers.faulty_source import Faulty
        fuse = os.path.dirname(OUT) + "/fuse"
        enqueuer = OrderedEnqueuer(Faulty({place!r}, Fault("sigstop-sigcont", fuse)))
        enqueuer.start({2 * (backend == "thread")}, 4)
        say(*numbers(enqueuer.get(), 6), os.path.exists(fuse))
        enqueuer.stop()
    """, env={"PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    assert said == ["0 1 2 3 4 5 True"]


@pytest.mark.parametrize(
    ("place", "kind"), [("amid-item", "exit-0"), ("amid-item", "sigsegv"), ("before-record", "sys-exit")]
)
def test_work_item_that_always_crashes_its_worker_is_given_up_after_its_restarts(place, kind, tmp_path):
    with Cell(place, kind, "forkserver", tmp_path, once=False, restarts=1) as cell:
        with pytest.raises(WorkerDied) as caught:
            _run(cell)
        error = caught.value
        assert (error.index, error.epoch) == (AT, 0)
        assert cell.found == list(range(AT))
        if kind.startswith("sig"):
            assert error.signal_name == kind.upper()
        else:
            assert error.exitcode == {"sys-exit": 3, "exit-0": 0}[kind]
        assert error.peak_memory_bytes > 1 << 20
        assert not error.oom_killed
        assert f"index {AT} of epoch 0" in str(error)
        assert "tried 2 times" in str(error)
        assert not cell.enqueuer.is_running()
        assert cell.enqueuer.statistics().deaths == 2  # the last figures remain


def test_repeated_crashes_in_worker_init_are_not_attributed_to_a_work_item(tmp_path):
    with Cell("worker-init", "sigkill", "forkserver", tmp_path, once=False, restarts=1) as cell:
        with pytest.raises(WorkerDied, match="before they compute anything: check `worker_init`") as caught:
            _run(cell)
        assert caught.value.index is None
        assert cell.found == []


@pytest.mark.slow
@pytest.mark.parametrize(("place", "kind"), [("worker-init", "endless-loop"), ("amid-item", "sigstop")])
def test_work_item_that_always_hangs_is_given_up_after_its_restarts(place, kind, tmp_path, monkeypatch):
    _hurry(monkeypatch)
    with Cell(place, kind, "forkserver", tmp_path, once=False, restarts=1) as cell:
        judge_by(cell.hanging, monkeypatch)
        with pytest.raises(BatchTimeout) as caught:
            _run(cell)
        at = 0 if place == "worker-init" else AT
        assert (caught.value.index, caught.value.epoch, caught.value.timeout_s) == (at, 0, TIMEOUT_S)
        assert ("the worker is stopped, or stuck in the kernel" in str(caught.value)) is (kind == "sigstop")
        assert cell.found == list(range(at))
