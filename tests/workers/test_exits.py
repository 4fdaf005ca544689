"""`sys.exit` in source code is an error of its batch, with a traceback and without a retry; `os._exit` is a crash.

A child process that source code forks, and that exits, affects neither its worker nor the batches of the loader.
"""

import os
import signal
import sys
import traceback
from functools import partial

import numpy as np
import pytest
from helpers.faults import Numbers, numbers
from helpers.gates import Gate, pass_gate
from helpers.outside import ran

from mpqueue import Loader, OrderedEnqueuer
from mpqueue.errors import WorkerDied, WorkerRaised
from mpqueue.workers import forker

BACKENDS = [{"start_method": "forkserver"}, {"start_method": "fork"}, {"start_method": "spawn"}, {"backend": "thread"}]
FORK_SERVER_AND_THREAD = pytest.mark.parametrize("options", [BACKENDS[0], BACKENDS[3]], ids=["forkserver", "thread"])
backends = pytest.mark.parametrize("options", BACKENDS, ids=["forkserver", "fork", "spawn", "thread"])
AT, LENGTH = 2, 5


class Leaving(Numbers):
    """A source that calls `sys.exit` for one item."""

    def __init__(self, code=3):
        super().__init__(LENGTH)
        self.code = code

    def __getitem__(self, index):
        if index == AT:
            leave(self.code)
        return super().__getitem__(index)


def leave(code):
    sys.exit(code)


def elements():
    yield np.array([0])
    leave("no more files")


def look_at(error, text, note):
    assert type(error) is WorkerRaised
    assert (error.type_name, error.text) == ("SystemExit", text)
    (said,) = error.__notes__
    assert note in said
    shown = "".join(traceback.format_exception(error))
    assert "in leave" in shown
    assert "sys.exit(code)" in shown


@backends
def test_exit_is_an_error_of_its_batch_and_the_stream_continues(options, caplog):
    with Loader(Leaving(), workers=2, **options) as loader:
        for epoch in range(2):
            batches = iter(loader)
            assert numbers(batches, AT) == list(range(AT))
            with pytest.raises(WorkerRaised) as caught:
                next(batches)
            look_at(caught.value, "3", f"raised for index {AT} of epoch {epoch}")
            assert [int(batch[0]) for batch in batches] == list(range(AT + 1, LENGTH))
        statistics = loader.statistics()
        assert (statistics.deaths, statistics.retries) == (0, 0)
    assert not caplog.records


@FORK_SERVER_AND_THREAD
def test_exit_in_a_generator_is_an_error(options):
    with Loader(elements, workers=1, **options) as loader:
        batches = iter(loader)
        assert int(next(batches)[0]) == 0
        with pytest.raises(WorkerRaised) as caught:
            next(batches)
        look_at(caught.value, "no more files", "raised for index 1 of epoch 0")
        assert list(batches) == []


@FORK_SERVER_AND_THREAD
def test_exit_in_a_sample_is_an_error_that_can_be_skipped(options):
    with Loader(Leaving(), batch_size=2, workers=1, on_error="skip", **options) as loader:
        assert [batch.ravel()[0] for batch in loader] == [0, 4]
        assert loader.statistics().skipped == 1


@FORK_SERVER_AND_THREAD
def test_exit_in_worker_init_is_an_error_of_each_batch(options):
    with Loader(Numbers(2), workers=1, worker_init=lambda: leave(4), **options) as loader:
        batches = iter(loader)
        for _ in range(2):
            with pytest.raises(WorkerRaised, match="SystemExit: 4"):
                next(batches)
        assert list(batches) == []


class LeavesWhenUnpickled(Numbers):
    def __setstate__(self, state):
        leave(5)


@pytest.mark.parametrize(
    "options", [{"start_method": "forkserver"}, {"start_method": "spawn"}], ids=["forkserver", "spawn"]
)
def test_exit_while_unpickling_the_source_is_an_error(options):
    with Loader(LeavesWhenUnpickled(2), workers=1, **options) as loader:
        with pytest.raises(WorkerRaised, match="SystemExit: 5") as caught:
            next(iter(loader))
        assert "in leave" in str(caught.value.__cause__)


def test_enqueuer_stops_after_an_exit_and_the_program_continues():
    enqueuer = OrderedEnqueuer(Leaving(), True)
    enqueuer.start(2)
    batches = enqueuer.get()
    assert numbers(batches, AT) == list(range(AT))
    with pytest.raises(WorkerRaised, match="SystemExit: 3"):
        next(batches)
    assert not enqueuer.is_running()


class Dying(Numbers):
    def __getitem__(self, index):
        if index == AT:
            os._exit(7)
        return super().__getitem__(index)


def test_os_exit_is_a_crash():
    with Loader(Dying(LENGTH), workers=1, restarts=0) as loader:
        batches = iter(loader)
        assert numbers(batches, AT) == list(range(AT))
        with pytest.raises(WorkerDied, match="exit code 7"):
            next(batches)


class Parent(Numbers):
    """A source that forks a child for each item. The child exits by `sys.exit` or by an error."""

    def __getitem__(self, index):
        child = os.fork()
        if child == 0:
            if index % 2:
                raise ValueError
            sys.exit(8)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return np.array([index, status])


def test_child_forked_by_the_source_sends_no_report():
    said, _ = ran("""
        from test_exits import Parent
        with Loader(Parent(4), workers=1) as loader:
            say([batch.tolist() for batch in loader], loader.statistics().deaths)
    """, env={"PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])})  # fmt: skip
    assert said == ["[[0, 8], [1, 1], [2, 8], [3, 1]] 0"]


class Asked(Numbers):
    """A source that waits forever from index 1 on. Its handler of SIGTERM raises SystemExit."""

    def __init__(self, gate):
        super().__init__()
        self.gate = gate.address

    def __getitem__(self, index):
        if index:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            pass_gate(self.gate)
        return super().__getitem__(index)


def test_sigterm_handler_that_raises_system_exit_ends_the_worker_at_once(monkeypatch):
    monkeypatch.setattr("mpqueue.workers.roster._GRACE_S", 0.05)
    monkeypatch.setattr("mpqueue.workers.roster._TERM_S", 20.0)
    with Gate() as gate:
        loader = Loader(Asked(gate), workers=1)
        batches = iter(loader)
        next(batches)
        waiting = gate.arrival()
        loader.stop()  # SIGKILL would follow after 20 s
        waiting.let_go()
        assert not gate.has_arrivals  # later batches were granted, too


def test_exit_without_workers_is_an_error_of_its_batch(caplog):
    with Loader(Leaving(), workers=0) as loader:
        for epoch in range(2):
            batches = iter(loader)
            assert numbers(batches, AT) == list(range(AT))
            with pytest.raises(WorkerRaised) as caught:
                next(batches)
            look_at(caught.value, "3", f"raised for index {AT} of epoch {epoch}")
            assert [int(batch[0]) for batch in batches] == list(range(AT + 1, LENGTH))
    with Loader(elements, workers=0) as loader:
        batches = iter(loader)
        assert int(next(batches)[0]) == 0
        with pytest.raises(WorkerRaised) as caught:
            next(batches)
        look_at(caught.value, "no more files", "raised for index 1 of epoch 0")
        assert list(batches) == []
    assert not caplog.records


@pytest.mark.parametrize("batch_size", [None, 2])
def test_exit_without_workers_can_be_skipped(batch_size):
    with Loader(Leaving(), batch_size=batch_size, workers=0, on_error="skip") as loader:
        assert [batch.ravel()[0] for batch in loader] == ([0, 4] if batch_size else [0, 1, 3, 4])
        assert loader.statistics().skipped == 1


def test_exit_in_worker_init_without_workers_is_an_error():
    with Loader(Numbers(2), workers=0, worker_init=partial(leave, 4)) as loader:
        batches = iter(loader)
        for _ in range(2):
            with pytest.raises(WorkerRaised) as caught:
                next(batches)
            assert (caught.value.type_name, caught.value.text) == ("SystemExit", "4")
        assert list(batches) == []


def reset_and_leave():
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    leave(6)


@pytest.mark.parametrize(
    "handler",
    [lambda *_: leave(5), lambda *_: reset_and_leave(), lambda number, frame: reset_and_leave()],
    ids=["is kept", "is reset", "is reset, and names its argument"],
)
def test_exit_of_a_signal_handler_without_workers_leaves_the_loop_and_loses_nothing(handler):
    struck = []

    class Signalled(Numbers):
        def __getitem__(self, index):
            if index == AT and not struck:
                struck.append(index)
                signal.raise_signal(signal.SIGUSR1)
            return super().__getitem__(index)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with Loader(Signalled(LENGTH), workers=0) as loader:
            batches = iter(loader)
            assert numbers(batches, AT) == list(range(AT))
            with pytest.raises(SystemExit):
                next(batches)
            assert [int(batch[0]) for batch in batches] == list(range(AT, LENGTH))
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_forked_worker_that_cannot_start_does_not_run_the_trainers_code(monkeypatch):
    class Left(BaseException):
        pass

    def leave_at_once(code):
        raise Left(code)

    def fails(_):
        raise OSError("no thread can be started")

    made = forker.Forker(None)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "_exit", leave_at_once)
            patch.setattr(forker.parent_death, "arm", fails)
            with pytest.raises(Left, match="1"):
                made._live(None, None, -1)
    finally:
        made.release(reusable=False)
