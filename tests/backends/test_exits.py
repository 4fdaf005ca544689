"""`sys.exit` in source code is an error of its batch, with a traceback and without a retry.

A child process that source code forks, and that exits, affects neither its worker nor the batches of the loader.
"""

import os
import signal
import sys
import traceback

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.faults import Numbers, numbers
from helpers.gates import Gate, pass_gate
from helpers.signal_handlers import handling

from mpqueue import Loader
from mpqueue.backends.start import forker
from mpqueue.errors import WorkerDied, WorkerRaised

pytestmark = [pytest.mark.sample(2), pytest.mark.shared_fork_server]

BACKENDS = {
    "forkserver": {"workers": 1},
    "fork": {"workers": 1, "start_method": "fork"},
    "spawn": {"workers": 1, "start_method": "spawn"},
    "thread": {"workers": 1, "backend": "thread"},
    "inline": {"workers": 0},
}
backends = pytest.mark.parametrize("options", BACKENDS.values(), ids=BACKENDS)
OWN = ["forkserver", "thread", "inline"]
own_backends = pytest.mark.parametrize("options", [BACKENDS[name] for name in OWN], ids=OWN)
AT, LENGTH = 2, 5


def leave(code):
    sys.exit(code)


# A source that calls `sys.exit` for one item.
LEAVING = Computed(lambda index: np.full(64, index) if index != AT else leave(3), LENGTH)


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
    with Loader(LEAVING, **options) as loader:
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


@own_backends
def test_exit_in_a_generator_is_an_error(options):
    with Loader(elements, **options) as loader:
        batches = iter(loader)
        assert int(next(batches)[0]) == 0
        with pytest.raises(WorkerRaised) as caught:
            next(batches)
        look_at(caught.value, "no more files", "raised for index 1 of epoch 0")
        assert list(batches) == []


@own_backends
@pytest.mark.parametrize("batch_size", [None, 2])
def test_exit_in_a_sample_is_an_error_that_can_be_skipped(options, batch_size):
    with Loader(LEAVING, batch_size=batch_size, on_error="skip", **options) as loader:
        assert [batch.ravel()[0] for batch in loader] == ([0, 3, 4] if batch_size else [0, 1, 3, 4])
        assert loader.statistics().skipped == 1


def test_sigterm_handler_that_raises_system_exit_ends_the_worker_at_once(monkeypatch):
    monkeypatch.setattr("mpqueue.backends.processes.roster._GRACE_S", 0.05)
    monkeypatch.setattr("mpqueue.backends.processes.roster._TERM_S", 20.0)

    def wait_from_1_on(index):
        if index:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            pass_gate(address)
        return index

    with Gate() as gate:
        address = gate.address
        loader = Loader(Computed(wait_from_1_on), workers=1)
        batches = iter(loader)
        next(batches)
        waiting = gate.arrival()
        loader.stop()  # SIGKILL would follow after 20 s
        waiting.let_go()
        assert not gate.has_arrivals  # later batches were granted, too


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

    def signalled(index):
        if index == AT and not struck:
            struck.append(index)
            signal.raise_signal(signal.SIGUSR1)
        return index

    with handling(handler, signal.SIGUSR1), Loader(Computed(signalled, LENGTH), workers=0) as loader:
        batches = iter(loader)
        assert [next(batches) for _ in range(AT)] == list(range(AT))
        with pytest.raises(SystemExit):
            next(batches)
        assert list(batches) == list(range(AT, LENGTH))


def test_forked_worker_that_cannot_start_does_not_run_the_trainers_code(monkeypatch):
    trainer = os.getpid()

    def fails(*_):
        if os.getpid() != trainer:
            raise OSError("no thread can be started")

    monkeypatch.setattr(forker.parent_death, "arm", fails)
    with Loader(Numbers(2), workers=1, start_method="fork", restarts=0) as loader:
        with pytest.raises(WorkerDied, match="exit code 1"):
            next(iter(loader))
