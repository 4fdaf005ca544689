"""Forks by other code: of the trainer while an enqueuer runs, and of a worker by its own code."""

import inspect
import os
import select
import signal
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest
from helpers.computed_source import Computed
from helpers.faults import Numbers, burns, numbers
from helpers.forked_calls import fork_of
from helpers.gates import Gate, pass_gate
from helpers.quiet_trainers import lines_of
from helpers.signal_handlers import handling, raising
from helpers.started_enqueuer import started
from helpers.trainer_processes import Trainer

from mpqueue import Loader
from mpqueue.backends.start import forker

pytestmark = [pytest.mark.sample(1), pytest.mark.usefixtures("forked_trainers")]

FORKED = """
__import__("warnings").simplefilter("ignore", DeprecationWarning)  # of 3.12, at every fork with threads
from helpers.forked_calls import fork_of
def forked(deed):
    def say_error():
        try:
            deed()
        except BaseException as error:
            say(type(error).__name__, error)
    return fork_of(say_error)
enqueuer = OrderedEnqueuer(Numbers(), True, start_method=METHOD)
enqueuer.start(2)
batches = enqueuer.get()
say(*(int(next(batches)[0]) for _ in range(3)))
"""

METHODS = pytest.mark.parametrize("method", ["forkserver", "fork"])  # spawned workers have their fork server's pipes


def with_forks(script, method="forkserver"):
    """Return a script after `FORKED`."""
    return f"METHOD = {method!r}\n{FORKED}{script}"


@METHODS
def test_child_that_uses_the_enqueuer_gets_a_clear_error_and_the_parent_continues(method):
    script = """
for deed in lambda: next(batches), enqueuer.stop, enqueuer.queue.qsize, lambda: next(enqueuer.get()):
    os.waitpid(forked(deed), 0)
say(*(int(next(batches)[0]) for _ in range(8)))
enqueuer.stop()
"""
    said = lines_of(with_forks(script, method))
    refused = [word for word in said if word.startswith("RuntimeError")]
    assert said[0] == "0 1 2"
    assert said[-1] == "3 4 5 6 7 0 1 2"
    assert len(refused) == 3
    assert all("was forked while a loader or an enqueuer was running" in word for word in refused)


@pytest.mark.slow
def test_child_gets_a_clear_error_after_an_interrupt_delayed_the_failure():
    said = lines_of(
        with_forks("""
def strike():
    del enqueuer.stop
    raise TimeoutError
enqueuer.stop()
enqueuer.sequence = mpqueue.Dataset.range(2).map("01".index)  # a TypeError
enqueuer.start(1)
batches, enqueuer.stop = enqueuer.get(), strike
for _ in range(2):
    try:
        next(batches)
    except Exception as error:
        say(type(error).__name__)
os.waitpid(forked(lambda: next(batches)), 0)
""")
    )
    assert [word.split()[0] for word in said[1:]] == ["TimeoutError", "TypeError", "RuntimeError"]


def test_child_gets_an_error_from_a_running_loader_and_may_start_its_own():
    """Otherwise it would get the batches of its parent again, and start workers for that."""
    said = lines_of(
        with_forks("""
__import__("warnings").simplefilter("ignore")  # of 3.12, at every fork with threads; of functions in processes
import asyncio
from helpers.coroutines import give_way
enqueuer.stop()
class Awaited(Numbers):
    async def __getitem__(self, index):
        await give_way()
        return super().__getitem__(index)
def elements():
    yield from map(np.array, range(8))
async def take():
    async for _ in loader:
        break
def read(loader):
    with loader:
        say(*sorted({int(batch.ravel()[0]) for batch in loader}))
    mpqueue.shutdown()
for source, options in (
    (Numbers(), {"workers": 1}),
    (elements, {"workers": 1, "start_method": "fork"}),
    (Numbers(), {"workers": 2, "backend": "thread"}),
    (elements, {"workers": 2, "backend": "thread"}),
    (elements, {"workers": 0}),
    (Awaited(), {"workers": 0}),
    (Awaited(), {"workers": 1}),
):
    loader = mpqueue.Loader(source, **options)
    batches = iter(loader)
    next(batches)
    for deed in lambda: next(batches), lambda: list(loader), lambda: list(loader), lambda: asyncio.run(take()):
        os.waitpid(forked(deed), 0)
    os.waitpid(forked(lambda: read(mpqueue.Loader(source, **options))), 0)
    say(len(list(batches)) > 0)
    os.waitpid(forked(lambda: list(loader)), 0)
    loader.stop()
    os.waitpid(forked(lambda: read(loader)), 0)
""")
    )
    text, whole = "was forked while a loader or an enqueuer was running", "0 1 2 3 4 5 6 7"
    # After the stop of a loader, a child may start it.
    expected = ["refused"] * 4 + [whole, "True", "refused", whole]
    assert ["refused" if text in word else word for word in said[1:]] == expected * 7


def test_child_that_shuts_down_does_not_end_parked_fork_servers_of_its_parent():
    said = lines_of(
        with_forks("""
import psutil
enqueuer.stop()
parked = psutil.Process().children()
os.waitpid(forked(mpqueue.shutdown), 0)
say(*(process.status() == psutil.STATUS_ZOMBIE for process in parked))
enqueuer.start(2)
say(*(int(next(enqueuer.get())[0]) for _ in range(2)))
enqueuer.stop()
""")
    )
    assert said == ["0 1 2", "False", "0 1"]


@METHODS
def test_child_that_keeps_running_delays_neither_stop_nor_the_exit_of_workers(method):
    script = """
child = forked(hang)
say(*(int(next(batches)[0]) for _ in range(8)))
enqueuer.stop()
mpqueue.shutdown()
say("stopped", child)
sys.stdin.readline()
"""
    with Trainer(with_forks(script, method), stdin=subprocess.PIPE) as trainer:
        assert [trainer.heard(), trainer.heard()] == ["0 1 2", "3 4 5 6 7 0 1 2"]
        word, child = trainer.heard().split()
        assert word == "stopped"
        living = {process.pid: " ".join(process.cmdline()) for process in trainer.processes()}
        assert {pid for pid, text in living.items() if "resource_tracker" not in text} == {trainer.pid, int(child)}
        os.kill(int(child), signal.SIGKILL)
        assert trainer.ended() == (0, "")
        assert trainer.left_nothing()


@METHODS
def test_workers_that_are_stopped_during_a_fork_continue_and_end(method):
    """One worker gets SIGCONT after the fork; `stop` ends the other one while the child runs."""
    script = """
pids = [worker.pid for worker in enqueuer.statistics().workers]
for pid in pids:
    os.kill(pid, signal.SIGSTOP)
child = forked(hang)
for pid in pids:
    os.kill(pid, signal.SIGCONT)
say(*(int(next(batches)[0]) for _ in range(8)), enqueuer.statistics().deaths)
os.kill(pids[0], signal.SIGSTOP)
other = forked(hang)
enqueuer.stop()
say("stopped", os.path.exists(f"/proc/{pids[0]}"))
for pid in (child, other):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""
    with Trainer(with_forks(script, method)) as trainer:
        assert [trainer.heard() for _ in range(3)] == ["0 1 2", "3 4 5 6 7 0 1 2 0", "stopped False"]
        assert trainer.ended() == (0, "")
        assert trainer.left_nothing()


@METHODS
def test_child_that_outlives_the_killed_trainer_keeps_no_worker(method):
    script = """
say("child", forked(hang))
hang()
"""
    with Trainer(with_forks(script, method)) as trainer:
        assert trainer.heard() == "0 1 2"
        child = int(trainer.heard().split()[1])
        trainer.process.kill()
        trainer.process.wait()
        os.kill(child, 0)
        assert trainer.left_nothing(but={child})
        os.kill(child, signal.SIGKILL)
        assert trainer.left_nothing()


def opened():
    """Return the files, pipes and sockets that this process has open."""
    links = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
    return {os.readlink(link) for link in links if os.path.lexists(link)}


def test_subprocesses_inherit_no_descriptors():
    before = opened()
    with started(Numbers(), 2) as enqueuer:
        batches = enqueuer.get()
        ours = opened() - before
        code = f"import os\n{inspect.getsource(opened)}\nprint(opened())"
        done = subprocess.run([sys.executable, "-c", code], close_fds=False, capture_output=True, text=True, check=True)
        assert len(ours) > 2
        assert not ours & set(eval(done.stdout))
        assert numbers(batches, 9) == [0, 1, 2, 3, 4, 5, 6, 7, 0]


@METHODS
def test_crash_of_a_worker_with_a_running_child_is_detected_at_once(method, tmp_path):
    """The child has the worker's pipes open, so they do not end."""

    def live_in_own_session():
        os.setsid()
        pass_gate(address)

    def fork_and_crash_once(index):
        if index == 3 and burns(str(tmp_path / "fuse")):
            fork_of(live_in_own_session)
            os.kill(os.getpid(), signal.SIGKILL)
        return index

    with Gate() as gate:
        address = gate.address
        with started(Computed(fork_and_crash_once), 1, 4, start_method=method) as enqueuer:
            batches = enqueuer.get()
            assert [next(batches) for _ in range(16)] == 2 * list(range(8))
            assert enqueuer.statistics().deaths == 1
            child = gate.arrival()
        os.kill(child.pid, 0)  # it outlives the pool, too
        child.let_go()


@pytest.mark.slow
def test_default_sigpipe_handler_kills_neither_trainer_nor_worker():
    said = lines_of("""
        from helpers.faults import burns
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        class Dying(Numbers):
            def __getitem__(self, index):
                if index == 2 and burns(f"{OUT} {run}"):
                    os.kill(os.getpid(), signal.SIGKILL)
                return super().__getitem__(index)
        for run in range(3):
            with Loader(Dying(), workers=2) as loader:
                say(*(int(batch[0]) for batch in loader), loader.statistics().deaths)
    """)
    assert said == ["0 1 2 3 4 5 6 7 1"] * 3


def test_torch_loader_and_loader_do_not_disturb_each_other():
    torch = pytest.importorskip("torch")

    with Loader(Numbers(12), workers=2) as loader:
        theirs = torch.utils.data.DataLoader(Numbers(12), num_workers=2, multiprocessing_context="fork")
        pairs = [(int(ours[0]), int(other[0][0])) for ours, other in zip(loader, theirs, strict=True)]
    assert pairs == [(number, number) for number in range(12)]


COLLECTED = """
import gc, os
gc.disable()
os.register_at_fork(after_in_child=gc.collect)  # before the package's own hook: a collection may start at any moment
import mpqueue
from mpqueue.backends.processes.roster import Roster
def end_workers(roster, *arguments, **options):
    print("workers are ended by", "the trainer" if os.getpid() == trainer else "a child", flush=True)
    return end(roster, *arguments, **options)
trainer, end, Roster.end_workers = os.getpid(), Roster.end_workers, end_workers
loader = mpqueue.Loader(range(8), workers=2)
batches = iter(loader)
next(batches)
cycle = [batches, loader]
cycle.append(cycle)
del batches, loader, cycle
pid = os.fork()
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
gc.collect()
"""


@pytest.mark.slow
def test_child_that_collects_a_loader_during_its_fork_ends_no_worker():
    command = [sys.executable, "-W", "ignore", "-c", COLLECTED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (0, "workers are ended by the trainer\n", "")


def test_interrupt_while_forked_workers_are_reaped_leaves_none(monkeypatch):
    loader = Loader(Numbers(), workers=1, start_method="fork")
    next(iter(loader))
    (worker,) = [each for each in psutil.Process().children() if each.name().startswith("mpqueue-worker")]

    def interrupted_poll():
        poll = select.poll()

        def wait(timeout_ms):
            signal.raise_signal(signal.SIGALRM)
            return poll.poll(timeout_ms)

        return SimpleNamespace(register=poll.register, poll=wait)

    monkeypatch.setattr(forker, "select", SimpleNamespace(poll=interrupted_poll, POLLIN=select.POLLIN))
    with handling(raising(InterruptedError), signal.SIGALRM), pytest.raises(InterruptedError):
        loader.stop(0)
    assert not psutil.pid_exists(worker.pid)
