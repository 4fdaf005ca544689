"""Around it: many enqueuers, odd processes to live in, and the end of the interpreter in each state."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from helpers.faults import Numbers, numbers
from helpers.gates import Gate, pass_gate
from helpers.outside import Trainer, ran

import mpqueue
from mpqueue import GeneratorEnqueuer, Loader, OrderedEnqueuer


class Mapped(Numbers):
    """Batches are the flags of the ring's mapping in the worker."""

    def __getitem__(self, index):
        flags, is_ring = [], False
        with open("/proc/self/smaps") as maps:
            for line in maps:
                if "-" in line.split()[0]:
                    is_ring = "/dev/shm/psm_" in line or "/memfd:mpqueue" in line
                elif is_ring and line.startswith("VmFlags:"):
                    flags.append(line.split()[1:])
        return flags


@pytest.mark.parametrize("method", ["nursery", "fork", "spawn"])
def test_a_core_dump_of_a_worker_leaves_the_ring_out(method):
    with OrderedEnqueuer(Mapped(), True, start_method=method) as enqueuer:
        enqueuer.start(1)
        mappings = next(enqueuer.get())
    assert mappings
    assert all("dd" in flags for flags in mappings)  # "do not include area into core dump", proc(5)


def test_ten_enqueuers_at_once():
    pools = [OrderedEnqueuer(Numbers(), processes) for processes in (True, False) for _ in range(5)]
    try:
        for pool in pools:
            pool.start(2, 4)
        streams = [pool.get() for pool in pools]
        for index in [*range(8), *range(8)]:
            assert [numbers(stream, 1) for stream in streams] == [[index]] * 10
    finally:
        for pool in pools:
            pool.stop()


class Nested(Numbers):
    """A worker that has workers."""

    def __getitem__(self, index):
        with OrderedEnqueuer(Numbers(), True) as inner:
            inner.start(2)
            found = numbers(inner.get(), 8)
        mpqueue.shutdown()
        assert found == list(range(8))
        return super().__getitem__(index)


@pytest.mark.parametrize("method", ["nursery", "fork", "spawn"])
def test_a_worker_may_start_workers(method):
    with OrderedEnqueuer(Nested(), True, start_method=method) as enqueuer:
        enqueuer.start(1, 2)
        assert numbers(enqueuer.get(), 3) == [0, 1, 2]


def test_the_death_of_a_worker_takes_its_own_workers_along():
    script = """
        class Nesting(Numbers):
            def __getitem__(self, index):
                inner = OrderedEnqueuer(Numbers(), True)
                inner.start(2)
                next(inner.get())
                say("nested", os.getpid())
                time.sleep(1000)

        enqueuer = OrderedEnqueuer(Nesting(), True, restarts=0)
        enqueuer.start(1, 1)
        try:
            next(enqueuer.get())
        except mpqueue.errors.WorkerDied as error:
            say(error.signal_name)
        mpqueue.shutdown()
        say("shut down")
        sys.stdin.readline()
    """
    with Trainer(script, stdin=subprocess.PIPE) as trainer:
        os.kill(int(trainer.heard().split()[1]), 9)
        assert trainer.heard() == "SIGKILL"
        assert trainer.heard() == "shut down"
        assert trainer.left_nothing(but={trainer.pid})
        trainer.process.stdin.close()
        trainer.process.stdin = None
        assert trainer.ended() == (0, "")


@pytest.mark.parametrize("processes", [True, False])
def test_start_and_stop_in_a_loop(processes):
    enqueuer = OrderedEnqueuer(Numbers(), processes)
    descriptors = None
    for _ in range(200 if processes else 1000):
        enqueuer.start(2, 4)
        assert numbers(enqueuer.get(), 1) == [0]
        enqueuer.stop()
        held = len(os.listdir("/proc/self/fd"))
        descriptors = descriptors or held
        assert held <= descriptors + 1


def test_start_and_stop_in_several_threads():
    failures = []

    def run():
        try:
            for _ in range(10):
                with OrderedEnqueuer(Numbers(), True) as enqueuer:
                    enqueuer.start(2, 4)
                    assert numbers(enqueuer.get(), 9) == [0, 1, 2, 3, 4, 5, 6, 7, 0]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_one_enqueuer_is_stopped_by_several_threads_at_once():
    for _ in range(10):
        enqueuer = OrderedEnqueuer(Numbers(), True)
        enqueuer.start(2, 4)
        threads = [threading.Thread(target=enqueuer.stop) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not enqueuer.is_running()


def test_workers_outlive_the_thread_that_started_them():
    enqueuer = OrderedEnqueuer(Numbers(), True)
    thread = threading.Thread(target=enqueuer.start, args=(2,))
    thread.start()
    thread.join()
    assert numbers(enqueuer.get(), 16) == 2 * list(range(8))
    enqueuer.stop()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_in_a_daemonic_process(method, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("""
import multiprocessing, sys
import numpy as np
from mpqueue import OrderedEnqueuer

class Numbers:
    def __len__(self):
        return 8
    def __getitem__(self, index):
        return np.full(64, index)

def train():
    with OrderedEnqueuer(Numbers(), True) as enqueuer:
        enqueuer.start(2)
        batches = enqueuer.get()
        print(*(int(next(batches)[0]) for _ in range(8)), flush=True)

if __name__ == "__main__":
    process = multiprocessing.get_context(sys.argv[1]).Process(target=train, daemon=True)
    process.start()
    process.join()
    print(process.exitcode)
""")
    path = os.path.dirname(os.path.dirname(mpqueue.__file__))
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(script), method],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("0 1 2 3 4 5 6 7\n0\n", "")


TRAIN = """
with OrderedEnqueuer(Numbers(), True, start_method=os.environ.get("METHOD", "nursery")) as enqueuer:
    enqueuer.start(2)
    batches = enqueuer.get()
    say(*(int(next(batches)[0]) for _ in range(8)))
mpqueue.shutdown()
"""


def test_after_a_double_fork_as_daemons_do_it():
    said, output = ran(f"""
__import__("warnings").simplefilter("ignore", DeprecationWarning)  # of 3.12, at every fork beside threads
end, daemons_end = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        exec({TRAIN!r})
    os._exit(0)
os.close(daemons_end)
os.wait()
os.read(end, 1)
""")
    assert said == ["0 1 2 3 4 5 6 7"]
    assert output == ""


AS_INIT = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def may_unshare():
    return (
        shutil.which("unshare") and subprocess.run([*AS_INIT, "true"], capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif(not may_unshare(), reason="may not make a namespace of processes")
@pytest.mark.parametrize("method", ["nursery", "fork", "spawn"])
def test_as_process_1_no_zombie_is_left(method):
    """Orphans are ours then: workers of a nursery that was killed."""
    said, output = ran(
        """
assert os.getpid() == 1
import psutil
with OrderedEnqueuer(Numbers(), True, start_method=os.environ["METHOD"]) as enqueuer:
    enqueuer.start(2)
    batches = enqueuer.get()
    say(*(int(next(batches)[0]) for _ in range(8)))
    for process in psutil.Process().children():
        if "resource_tracker" not in " ".join(process.cmdline()):
            process.kill()
    say(*(int(next(batches)[0]) for _ in range(12)))
mpqueue.shutdown()
say([p.status() for p in psutil.Process().children(recursive=True) if "resource_tracker" not in " ".join(p.cmdline())])
""",
        command=AS_INIT,
        env={"METHOD": method},
    )
    assert said == ["0 1 2 3 4 5 6 7", "0 1 2 3 4 5 6 7 0 1 2 3", "[]"]
    assert output == ""


@pytest.mark.parametrize("method", ["nursery", "fork", "spawn"])
@pytest.mark.parametrize("closed", ["0", "1", "0 1 2"])
def test_with_closed_standard_streams(method, closed):
    said, _ = ran(f"for fd in {closed.split()}: os.close(int(fd))\n" + TRAIN, env={"METHOD": method})
    assert said == ["0 1 2 3 4 5 6 7"]


@pytest.mark.parametrize("method", ["nursery", "fork", "spawn"])
def test_in_a_working_directory_that_is_read_only(method, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir(0o500)
    said, output = ran(f"os.chdir({str(folder)!r})\n{TRAIN}", env={"METHOD": method})
    assert said == ["0 1 2 3 4 5 6 7"]
    assert output == ""
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(sys.version_info[:3] == (3, 13, 0), reason="3.13.0 can import nothing from a folder that is gone")
@pytest.mark.parametrize("method", ["nursery", "fork", "spawn"])
def test_in_a_working_directory_that_is_gone(method, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    # What it prints is not looked at: Python's own resource tracker may have a word to say.
    said, _ = ran(f"os.chdir({str(folder)!r})\nos.rmdir({str(folder)!r})\n{TRAIN}", env={"METHOD": method})
    assert said == ["0 1 2 3 4 5 6 7"]


class Gated(Numbers):
    """Passes a gate at index 3; looks at the handler of SIGTERM at each end of an epoch."""

    def __init__(self, gate):
        super().__init__(4)
        self.gate, self.seen = gate.address, []

    def __getitem__(self, index):
        if index == 3:
            pass_gate(self.gate)
        return super().__getitem__(index)

    def on_epoch_end(self):
        self.seen.append(signal.getsignal(signal.SIGTERM))


def mine(*_):
    """A handler of the user's."""


def test_handlers_of_the_user_stay_while_batches_are_waited_for_and_computed():
    previous = signal.signal(signal.SIGTERM, mine)
    with Gate() as gate, OrderedEnqueuer(Gated(gate), True) as enqueuer:
        source = enqueuer.sequence
        enqueuer.start(1, 4)

        def look_while_the_consumer_waits():
            for _ in range(2):
                arrival = gate.arrival()
                while not enqueuer._pipeline.is_waiting:
                    time.sleep(0.001)
                source.seen.append(signal.getsignal(signal.SIGTERM))
                arrival.let_go()

        thread = threading.Thread(target=look_while_the_consumer_waits)
        thread.start()
        assert numbers(enqueuer.get(), 8) == [0, 1, 2, 3, 0, 1, 2, 3]
        thread.join()
        enqueuer.stop()
        assert source.seen == [mine] * 3
        assert signal.signal(signal.SIGTERM, previous) is mine


class Blocking:
    """A generator function whose second element never comes."""

    def __init__(self, gate):
        self.gate = gate.address

    def __call__(self):
        yield Numbers()[0]
        pass_gate(self.gate)
        yield Numbers()[1]


@pytest.mark.parametrize("method", ["nursery", "fork", "spawn", "thread"])
def test_a_generator_that_blocks_for_ever_does_not_block_stop(method):
    options = {} if method == "thread" else {"use_multiprocessing": True, "start_method": method}
    with Gate() as gate:
        enqueuer = GeneratorEnqueuer(Blocking(gate), **options)
        enqueuer.start(1)
        assert numbers(enqueuer.get(), 1) == [0]
        blocked = gate.arrival()
        enqueuer.stop()
        blocked.let_go()


def endless():
    number = 0
    while True:
        yield Numbers()[number]
        number += 1


def raising_in_close():
    try:
        yield from endless()
    finally:
        raise OSError("in close")


@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("stream", [endless, raising_in_close])
@pytest.mark.parametrize(("backend", "workers"), [("process", 1), ("thread", 1), ("thread", 0)])
def test_an_infinite_generator_ends_with_its_stop_whatever_its_close_does(stream, backend, workers):
    with Loader(stream, workers=workers, backend=backend) as loader:
        assert numbers(iter(loader), 30) == list(range(30))
        loader.stop()
        assert numbers(iter(loader), 3) == [0, 1, 2]


STATES = {
    "running": "batches = enqueuer.get(); next(batches)",
    "never started": "enqueuer.stop()",
    "stopped": "next(enqueuer.get()); enqueuer.stop()",
    "with views": "kept = [next(enqueuer.get()) for _ in range(12)]",
    "with views after stop": "kept = [next(enqueuer.get()) for _ in range(12)]; enqueuer.stop()",
    "half an epoch": "kept = [next(enqueuer.get()) for _ in range(3)]",
    "epoch end due": "kept = [next(enqueuer.get()) for _ in range(8)]",
    "failed": "enqueuer.sequence.fails = True",
    "a worker died": "next(enqueuer.get()); import psutil; [c.kill() for p in psutil.Process().children() for c in p.children()]",
    "the nursery died": "next(enqueuer.get()); import psutil; [p.kill() for p in psutil.Process().children()]",
    "a thread waits": "threading.Thread(target=lambda: list(enqueuer.get()), daemon=True).start()",
    "in sys.exit": "next(enqueuer.get()); kept = sys.exit",
}
EXIT = """
class Epochs(Numbers):
    def on_epoch_end(self):
        pass

enqueuer = OrderedEnqueuer(Epochs(), {processes})
if {state!r} != "never started":
    enqueuer.start(2)
{deed}
import atexit
atexit._ncallbacks()
say(time.monotonic())
"""
EXIT_WITHIN_S = 4.5  # about 0.05 s is usual, but the machine may be busy; a parked nursery would be waited for 5 s


@pytest.mark.parametrize("processes", [True, False])
@pytest.mark.parametrize("state", STATES)
def test_the_interpreters_end_is_prompt_and_silent(state, processes):
    if not processes and "died" in state:
        pytest.skip("threads do not die")
    with Trainer(EXIT.format(processes=processes, state=state, deed=STATES[state])) as trainer:
        began = float(trainer.heard())
        assert trainer.ended() == (0, "")
        took_s = time.monotonic() - began
        assert trainer.left_nothing()
    print(f"{state}, {'processes' if processes else 'threads'}: {1000 * took_s:.0f} ms")
    assert took_s < EXIT_WITHIN_S


@pytest.mark.parametrize("processes", [True, False])
@pytest.mark.parametrize(
    "prelude", ["pass", "signal.signal(signal.SIGTERM, signal.SIG_IGN) if os.getpid() != HERE else 0"]
)
def test_the_interpreters_end_does_not_wait_for_what_workers_are_at(prelude, processes):
    script = f"""
        HERE = os.getpid()

        class Endless(Numbers):
            def __getitem__(self, index):
                {prelude}
                say("there")
                time.sleep(1000)

        enqueuer = OrderedEnqueuer(Endless(), {processes})
        enqueuer.start(1)
        sys.stdin.readline()
        say(time.monotonic())
    """
    with Trainer(script, stdin=subprocess.PIPE) as trainer:
        assert trainer.heard() == "there"
        trainer.process.stdin.close()
        trainer.process.stdin = None
        began = float(trainer.heard())
        assert trainer.ended() == (0, "")
        took_s = time.monotonic() - began
        assert trainer.left_nothing()
    print(f"at work, {'processes' if processes else 'threads'}: {1000 * took_s:.0f} ms")
    assert took_s < EXIT_WITHIN_S
