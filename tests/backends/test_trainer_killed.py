"""The trainer is killed at any moment: within a second, none of its processes and segments is left.

This is observed from outside, because no process of the trainer's family can.
"""

import contextlib
import os
import select
import signal
import subprocess
import time

import pytest
from helpers.gates import Gate
from helpers.trainer_processes import Trainer

pytestmark = [pytest.mark.sample(2), pytest.mark.usefixtures("forked_trainers")]

WITHIN_S = 15.0  # milliseconds on an idle machine; no step has a longer timeout

STATES = """
def wait_there():
    say("there")
    hang()
class Telling(Numbers):
    epoch = 0
    def __getitem__(self, index):
        if PLACE == "item" and index == 3:
            wait_there()
        if PLACE == "loop" and index == 3:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            say("there")
            while True:
                pass
        return super().__getitem__(index)
    def __setstate__(self, state):
        self.__dict__.update(state)
        if PLACE == "unpickling" and mpqueue.worker_info() is None:
            wait_there()
class Epochs(Telling):
    def on_epoch_end(self):
        self.epoch += 1
        self.table = np.full(4 << 20, self.epoch)
def init():
    if PLACE == "worker_init":
        wait_there()
source = (Epochs if PLACE == "restart" else Telling)()
enqueuer = OrderedEnqueuer(source, True, start_method=METHOD, worker_init=init)
if PLACE == "loop":  # before a worker runs and reports that
    from mpqueue.backends.processes import roster
    roster._TERM_S = 1000
    end_workers = roster.Roster.end_workers
    def ending(*args, **options):
        say("stops")
        end_workers(*args, **options)
    roster.Roster.end_workers = ending
    signal.signal(signal.SIGUSR1, lambda *_: threading.Thread(target=enqueuer.stop).start())
enqueuer.start(NUM_WORKERS, 4)
batches = enqueuer.get()
if PLACE == "idle":
    kept = [next(batches) for _ in range(4)]
    from helpers.waits import until
    until(lambda: enqueuer.queue.qsize() == 4, "the workers are not idle")
    wait_there()
if PLACE == "restart":
    from mpqueue.backends.processes.roster import Roster
    end_workers = Roster.end_workers
    def ended(*args, **options):
        end_workers(*args, **options)
        wait_there()
    Roster.end_workers = ended
for batch in batches:
    pass
hang()
"""


def trainer_at(place, method="forkserver", *, num_workers=2, **options):
    return Trainer(f"PLACE, METHOD, NUM_WORKERS = {place!r}, {method!r}, {num_workers}\n{STATES}", **options)


def killed_cleanly(trainer):
    """Kill it; return whether all its processes and segments disappear in time."""
    sentinels = []
    for process in trainer.processes():
        with contextlib.suppress(ProcessLookupError):  # it may exit by itself at this moment
            sentinels.append(os.pidfd_open(process.pid))
    trainer.process.kill()
    deadline = time.monotonic() + WITHIN_S
    late = [fd for fd in sentinels if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]]
    for fd in sentinels:
        os.close(fd)
    return len(sentinels) > 1 and not late and trainer.left_nothing(WITHIN_S)


OF_FORK_SERVER = [(place, "forkserver") for place in ("item", "idle", "unpickling", "restart")]


@pytest.mark.parametrize(("place", "method"), [*OF_FORK_SERVER, ("idle", "fork"), ("worker_init", "spawn")])
def test_no_process_or_segment_is_left(place, method):
    with trainer_at(place, method) as trainer:
        assert trainer.heard() == "there"
        assert killed_cleanly(trainer)


@pytest.mark.parametrize("method", ["forkserver", "fork"])
def test_no_process_is_left_while_it_stops_an_unwilling_worker(method):
    with trainer_at("loop", method) as trainer:
        assert trainer.heard() == "there"
        trainer.hears(signal.SIGUSR1)
        assert trainer.heard() == "stops"
        assert killed_cleanly(trainer)


@pytest.mark.parametrize("method", ["forkserver", "fork", "spawn"])
def test_no_stopped_process_is_left(method):
    # A second worker may just have been forked. Until it runs, it has the write end of the pipe that ends it.
    with trainer_at("item", method, num_workers=1) as trainer:
        assert trainer.heard() == "there"
        for process in trainer.processes():
            if process.pid != trainer.pid and "resource_tracker" not in " ".join(process.cmdline()):  # Python's own
                process.send_signal(signal.SIGSTOP)
        assert killed_cleanly(trainer)


def test_no_fork_server_with_a_starting_interpreter_is_left(tmp_path):
    with Gate() as gate:
        (tmp_path / "sitecustomize.py").write_text(
            "import sys\n"
            "if any('fork_server' in word for word in sys.orig_argv):\n"
            f"    sys.path.insert(0, {os.path.dirname(os.path.dirname(__file__))!r})\n"
            f"    __import__('helpers.gates').gates.pass_gate({gate.address!r})\n"
        )
        path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
        with trainer_at("nowhere", env={"PYTHONPATH": path}) as trainer:
            fork_server = gate.arrival()
            trainer.process.kill()
            trainer.process.wait()
            fork_server.let_go()
            assert trainer.left_nothing(WITHIN_S)


SELF_KILLED = """
__import__("warnings").simplefilter("ignore", DeprecationWarning)  # of 3.12, at every fork with threads
PACKAGE = os.path.dirname(mpqueue.__file__) + os.sep
class Epochs(Numbers):
    epoch = 0
    def on_epoch_end(self):
        self.epoch += 1
class Suicide:
    \"\"\"Kills this process at the n-th call of a function of the engine.\"\"\"
    def __init__(self, after):
        self.left, self.pid = after, os.getpid()
    def __call__(self, frame, event, argument):
        if frame.f_code.co_filename.startswith(PACKAGE) and os.getpid() == self.pid:
            self.left -= 1
            if self.left == 0:
                os.kill(self.pid, signal.SIGKILL)
from helpers.forked_calls import status_of_fork
def train(after):
    sys.settrace(Suicide(after))
    enqueuer = OrderedEnqueuer(Epochs(3), True, start_method=METHOD)
    enqueuer.start(2, 4)
    kept = [next(enqueuer.get()) for _ in range(7)]
    enqueuer.stop()
after = 1
while True:
    status = status_of_fork(lambda: train(after))
    say(after, status)
    sys.stdin.readline()
    if status == 0:
        break
    after += STEP
"""


@pytest.mark.slow
@pytest.mark.parametrize(("method", "step"), [("forkserver", 101), ("fork", 131)])
def test_no_process_is_left_at_any_call_of_the_engine(method, step):
    with Trainer(f"METHOD, STEP = {method!r}, {step}\n{SELF_KILLED}", stdin=subprocess.PIPE) as supervisor:
        deaths = 0
        while (word := supervisor.heard()) is not None:
            assert supervisor.left_nothing(WITHIN_S, but={supervisor.pid}), word
            deaths += word.endswith(" -9")
            os.write(supervisor.process.stdin.fileno(), b"\n")
        assert deaths > 10
        assert supervisor.ended() == (0, "")
