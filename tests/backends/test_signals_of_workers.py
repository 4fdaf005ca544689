"""A worker ignores signals of its process group, has no handler of the trainer, and may end by SIGTERM."""

import faulthandler
import os
import re
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.faults import Numbers
from helpers.fork_server_parts import socket_of
from helpers.forked_calls import exit_at_once
from helpers.gates import Gate, pass_gate
from helpers.one_epoch import one_epoch
from helpers.signal_handlers import handling, raising
from helpers.waits import until
from helpers.wrapped_functions import wrap

from mpqueue import Loader, OrderedEnqueuer
from mpqueue.backends.start import forker, launcher
from mpqueue.backends.start.fork_server_messages import ToForkServer, pack
from mpqueue.transport.framing import send_with_descriptors

pytestmark = pytest.mark.sample(1)

METHODS = pytest.mark.parametrize("method", ["forkserver", "fork", "spawn"])
LOOKED_AT = [signal.SIGINT, signal.SIGTERM, signal.SIGCHLD]
OF_GROUP = [getattr(signal, f"SIG{name}") for name in ("HUP", "QUIT", "USR1", "USR2", "ALRM", "XCPU", "RTMIN")]


def look(_):
    """Return the worker's handler of each signal, and the number of blocked signals."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return np.array([*map(signal.getsignal, LOOKED_AT), len(blocked)], object).astype(int)


@pytest.fixture
def odd_signals():
    """The trainer ignores all signals that it can, and blocks one."""
    with handling(signal.SIG_IGN, signal.SIGTERM, signal.SIGCHLD):
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        yield
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@METHODS
def test_worker_ignores_ctrl_c_and_has_default_handlers_otherwise(method, odd_signals):
    found = [batch.tolist() for batch in one_epoch(Computed(look, 2), workers=1, start_method=method)]
    assert found == [[int(signal.SIG_IGN), int(signal.SIG_DFL), int(signal.SIG_DFL), 0]] * 2


@METHODS
def test_worker_that_does_not_exit_by_itself_may_clean_up_before_it_is_killed(method, tmp_path):
    def clean_up(*_):
        with open(tmp_path / "mark", "w"):
            exit_at_once(0)

    def wait_at_1(index):
        if index == 1:
            signal.signal(signal.SIGTERM, clean_up)
            pass_gate(address)
        return index

    with Gate() as gate:
        address = gate.address
        enqueuer = OrderedEnqueuer(Computed(wait_at_1), True, start_method=method)
        enqueuer.start(1)
        assert next(enqueuer.get()) == 0
        waiting = gate.arrival()
        enqueuer.stop()
        waiting.let_go()
    assert (tmp_path / "mark").exists()


def send(pid):
    for number in OF_GROUP:
        os.kill(pid, number)
        # The kernel may deliver several at once, which needs a larger stack than `faulthandler` has.
        until(lambda: not is_delivering(pid), f"signal {number} is never delivered")


def is_delivering(pid):
    """Return whether a process has pending signals that it does not block."""
    status = Path(f"/proc/{pid}/status").read_text()
    thread, process, blocked = (int(bits, 16) for bits in re.findall(r"^S..(?:Pnd|Blk):\s*(\w+)", status, re.MULTILINE))
    return bool((thread | process) & ~blocked)


@pytest.mark.fresh_fork_server
@METHODS
def test_signals_of_the_group_end_no_worker_and_run_no_handler_of_the_trainer(method, monkeypatch):
    trainer, ran_in = os.getpid(), []

    def hit(_):
        for pid in {os.getpid(), os.getppid()} - {trainer}:
            send(pid)
        return np.array([os.getpid(), len(ran_in)])

    def start_and_hit(start, *arguments):
        process = start(*arguments)
        send(process.pid)  # it has not run its first line
        return process

    wrap(monkeypatch, launcher, "_start_interpreter", start_and_hit)
    wrap(monkeypatch, launcher, "_interpreter_flags", lambda flags: [*flags(), "-X", "faulthandler"])
    source = Computed(hit, 3)
    with handling(lambda *_: ran_in.append(os.getpid()), *OF_GROUP):
        with Loader(source, workers=1, start_method=method) as loader:
            found = {tuple(batch) for _ in range(2) for batch in loader}
            assert loader.statistics().deaths == 0
    assert [count for _, count in found] == [0] * len(found)
    assert len(found) == (2 if method == "fork" else 1)  # the workers of the second epoch are forked again
    assert not ran_in


class Installs(Numbers):
    """A source with a handler of SIGUSR1 that raises, installed when it is unpickled, or by the first batch."""

    def __init__(self, *, early):
        super().__init__(3)
        self.early, self.num_seen = early, 0

    def __setstate__(self, state):
        self.__dict__ |= state
        if self.early:
            signal.signal(signal.SIGUSR1, self.handle)

    def handle(self, *_):
        self.num_seen += 1
        raise LookupError

    def __getitem__(self, index):
        if index == 0 and not self.early:
            signal.signal(signal.SIGUSR1, self.handle)
        os.kill(os.getppid(), signal.SIGUSR1)  # the fork server
        try:
            signal.raise_signal(signal.SIGUSR1)
        except LookupError:
            return np.array([self.num_seen])


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_handler_that_the_source_installs_runs_in_workers_and_not_in_their_fork_server(method, early):
    with Loader(Installs(early=early), workers=1, start_method=method) as loader:
        assert [int(batch[0]) for batch in loader] == [1, 2, 3]
        assert loader.statistics().deaths == 0


@METHODS
def test_program_that_a_worker_starts_ignores_only_ctrl_c(method):
    def ignored(_):
        status = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return np.array([int(fields["SigIgn"], 16), int(fields["SigBlk"], 16)])

    with handling(raising(AssertionError), *OF_GROUP):
        (batch,) = one_epoch(Computed(ignored, 1), workers=1, start_method=method)
        assert batch.tolist() == [1 << (signal.SIGINT - 1), 0]


@METHODS
def test_faulthandler_writes_stacks_of_a_worker_only_where_the_source_has_registered_it(method, tmp_path):
    path = tmp_path / "of_source"

    def dump(index):
        signal.raise_signal(signal.SIGUSR1)  # ignored in the first batch
        if index == 0:
            kept.append(open(path, "w"))
            faulthandler.register(signal.SIGUSR1, kept[0], all_threads=False)
        return path.read_text().count("most recent call first")

    kept = []
    with open(tmp_path / "of_trainer", "w") as file:
        faulthandler.register(signal.SIGUSR1, file)
        try:
            assert [int(batch) for batch in one_epoch(Computed(dump, 3), workers=1, start_method=method)] == [0, 1, 2]
        finally:
            faulthandler.unregister(signal.SIGUSR1)
    assert (tmp_path / "of_trainer").read_text() == ""


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_signal_that_is_deferred_at_a_fork_is_handled_in_the_trainer_only(number, monkeypatch):
    """A loader in the worker handles signals that were deferred, and the handler of the source remains."""
    handled = []

    def fork_with_signal(fork):
        signal.raise_signal(number)
        return fork()

    def look(_):
        signal.signal(signal.SIGUSR2, lambda *_: handled.append("of the source"))
        one_epoch([1, 2], workers=0)
        signal.raise_signal(signal.SIGUSR2)
        return np.array(handled)

    wrap(monkeypatch, forker, "_fork_quietly", fork_with_signal)
    with (
        handling(lambda *_: handled.append("of the trainer"), number),
        Loader(Computed(look, 1), workers=1, start_method="fork") as loader,
    ):
        assert [batch.tolist() for batch in loader] == [["of the source"]]
        assert loader.statistics().deaths == 0
    assert handled == ["of the trainer"]


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_interrupted_messages_to_a_fork_server_are_no_crashes(method, monkeypatch, caplog):
    """One strikes before a message with the source, the next one in the middle of the message."""
    strikes = []

    def send_or_strike(send, fork_server, kind, body, fds=()):
        if kind == ToForkServer.SOURCE and strikes:
            if strikes.pop(0) == "inside":
                monkeypatch.setattr(fork_server, "_is_whole", False)
                data = pack(kind, body, fds)
                send_with_descriptors(socket_of(fork_server), data[:4], fds)
            signal.raise_signal(signal.SIGUSR1)
        send(fork_server, kind, body, fds)

    wrap(monkeypatch, launcher.ForkServer, "_send", send_or_strike)
    source = Computed(lambda _: np.zeros(1), 2)
    with (
        handling(raising(LookupError), signal.SIGUSR1),
        Loader(source, workers=1, start_method=method, restarts=0) as loader,
    ):
        for round_ in range(3):
            strikes[:] = [[], ["before"], ["before", "inside", "inside"]][round_]
            source.epoch = round_
            while strikes:
                with pytest.raises(LookupError):
                    list(loader)
            assert len(list(loader)) == 2
        assert loader.statistics().deaths == 0
    assert not caplog.records
