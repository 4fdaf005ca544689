"""The interpreter exits promptly and silently, whatever the state of an enqueuer."""

import subprocess
import sys
import textwrap
import time

import pytest
from helpers.trainer_processes import Trainer

pytestmark = [pytest.mark.sample(2), pytest.mark.usefixtures("forked_trainers")]

STATES = {
    "running": "batches = enqueuer.get(); next(batches)",
    "never started": "enqueuer.stop()",
    "with views": "kept = [next(enqueuer.get()) for _ in range(12)]",
    "failed": "try:\n    list(enqueuer.get())\nexcept OSError:\n    pass",
    "a worker died": "next(enqueuer.get()); import psutil; [c.kill() for p in psutil.Process().children() for c in p.children()]",
    "the fork server died": "next(enqueuer.get()); import psutil; [p.kill() for p in psutil.Process().children()]",
    "a thread waits": "threading.Thread(target=lambda: list(enqueuer.get()), daemon=True).start()",
}
EXIT = """
class Epochs(Numbers):
    def __getitem__(self, index):
        if index == 3 and {state!r} == "failed":
            raise OSError("mine")
        return super().__getitem__(index)
    def on_epoch_end(self):
        pass
enqueuer = OrderedEnqueuer(Epochs(), {processes})
if {state!r} != "never started":
    enqueuer.start(2)
{deed}
say(time.monotonic())
"""
NO_WAIT_S = 4.0  # an exit takes about 0.05 s longer than with NumPy alone; waiting for a parked fork server takes 5 s


CASES = [*((state, True) for state in STATES), *((state, False) for state in ("running", "a thread waits"))]


def exit_s(script):
    """Return the seconds that a script takes to exit after its last line."""
    with Trainer(script) as trainer:
        began = float(trainer.heard())
        assert trainer.ended() == (0, "")
        took_s = time.monotonic() - began
        assert trainer.left_nothing()
    return took_s


@pytest.mark.parametrize(("state", "processes"), CASES)
def test_interpreter_exit_is_silent_and_leaves_no_process(state, processes):
    exit_s(EXIT.format(processes=processes, state=state, deed=STATES[state]))


@pytest.fixture(scope="module")
def without_workers_s():
    return exit_s("say(time.monotonic())")


@pytest.mark.measures
@pytest.mark.parametrize("state", ["running", "a worker died"])
def test_interpreter_exit_is_prompt(state, without_workers_s):
    assert exit_s(EXIT.format(processes=True, state=state, deed=STATES[state])) < without_workers_s + NO_WAIT_S


@pytest.mark.parametrize(
    ("prelude", "processes"),
    [("pass", False), ("signal.signal(signal.SIGTERM, signal.SIG_IGN) if os.getpid() != HERE else 0", True)],
)
def test_interpreter_exit_does_not_wait_for_running_batches(prelude, processes):
    script = f"""
        HERE = os.getpid()
        class Endless(Numbers):
            def __getitem__(self, index):
                {prelude}
                say("there")
                hang()
        enqueuer = OrderedEnqueuer(Endless(), {processes})
        enqueuer.start(1)
        sys.stdin.readline()
        say(time.monotonic())
    """
    with Trainer(script, stdin=subprocess.PIPE) as trainer:
        assert trainer.heard() == "there"
        trainer.process.stdin.close()
        trainer.process.stdin = None
        assert trainer.heard()
        assert trainer.ended() == (0, "")
        assert trainer.left_nothing()


def test_interpreter_exit_does_not_wait_for_sample_threads():
    script = """
        loader = Loader(Numbers(64), batch_size=8, workers=0, threads=2)
        batches = iter(loader)
        next(batches)
        say(time.monotonic())
    """
    exit_s(script)


def test_parked_fork_server_exits_before_interpreter():
    script = textwrap.dedent("""
        import atexit, psutil
        atexit.register(lambda: print(psutil.Process().children()))  # registered before the package's function, so called after it
        import mpqueue
        with mpqueue.Loader(range(4), batch_size=2, workers=1) as loader:
            list(loader)
        print(len(psutil.Process().children()))
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["1", "[]"]
