"""Low process limits: a clear error at start, and no partly started pool.

Each limit is raised step by step from far too low to sufficient, so that every step of a start meets it once.
"""

import os
import re
import subprocess
import sys

import pytest
from helpers.trainer_processes import Trainer, ran

pytestmark = [pytest.mark.slow, pytest.mark.new_interpreter]

SOMEBODY = 54321  # a user id without processes

PRELUDE = """
import gc, resource, warnings
import numpy.random  # now: who becomes another user may not be able to read it
import psutil
def nothing_is_left(before):
    me = psutil.Process()
    until = time.monotonic() + 30
    while time.monotonic() < until:
        gc.collect()
        left = [p for p in me.children() if "resource_tracker" not in " ".join(p.cmdline())]
        names = sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{fd}"))
        if not left and len(names) <= before:
            return True
        time.sleep(0.005)  # children that were killed take their time
    print("left", left, names, before)
    return False
def tried(limit, value, method="forkserver", before=None):
    # Return the outcome of a start under a limit.
    soft, hard = resource.getrlimit(limit)
    enqueuer = OrderedEnqueuer(Numbers(), True, start_method=method)
    resource.setrlimit(limit, (value, hard))
    try:
        enqueuer.start(2)
        found = [int(next(enqueuer.get())[0]) for _ in range(8)]
        outcome = "runs" if found == list(range(8)) else f"wrong {found}"
    except Exception as error:
        outcome = f"{type(error).__name__}: {error}"
    finally:
        enqueuer.stop()
        mpqueue.shutdown()
        resource.setrlimit(limit, (soft, hard))
    return outcome
with OrderedEnqueuer(Numbers(), True) as enqueuer:  # what Python itself opens once is open
    enqueuer.start(2)
    next(enqueuer.get())
mpqueue.shutdown()
gc.collect()
before = len(os.listdir("/proc/self/fd"))
"""


def outcomes(script, **options):
    said, output = ran(PRELUDE + script, **options)
    # No tracebacks are printed, except by Python itself for a thread that gets no memory for its first frame.
    of_python = r"Exception ignored in thread started by: <function _reap_parked .*>\nMemoryError: ?\n"
    assert re.sub(of_python, "", output) == ""
    assert not [line for line in said if line.startswith("left")], said
    return said


def clear(outcome, *names):
    """Return whether an error states the exhausted resource in words."""
    kinds = "OSError", "MemoryError", "SharedMemoryFull", "WorkerDied", "BlockingIOError"
    return outcome.startswith(kinds) and any(name in outcome for name in names)


def runs_at_last(outcomes, *names):
    """Return whether starts fail with a clear error up to a sufficient limit, and succeed from there on."""
    first = outcomes.index("runs")
    unclear = [outcome for outcome in outcomes[:first] if not clear(outcome, *names)]
    return first > 0 and set(outcomes[first:]) == {"runs"} and not unclear


@pytest.mark.parametrize(("method", "step"), [("forkserver", 2), ("fork", 1), ("spawn", 8)])
def test_too_few_descriptors_are_an_error_at_start_and_leak_nothing(method, step):
    said = outcomes(f"""
enough = 0
for value in range(before, before + 60, {step}):
    outcome = tried(resource.RLIMIT_NOFILE, value, "{method}")
    say(outcome)
    assert nothing_is_left(before)
    enough += outcome == "runs"
    if enough == 3:
        break
    """)
    assert runs_at_last(said, "Too many open files", "ulimit -n"), said


def test_file_size_limit_is_an_error_at_start_and_leaks_nothing():
    said = outcomes("""
for value in (0, 1, 4096, 1 << 16, 1 << 20, 2 << 20, 1 << 30):
    say(tried(resource.RLIMIT_FSIZE, value))
    assert nothing_is_left(before)
    """)
    assert runs_at_last(said, "ulimit -f"), said
    assert said.index("runs") >= 3


def test_too_little_address_space_is_an_error_at_start_and_leaks_nothing():
    """From less than this process uses to more than the fork server needs.

    A start may succeed with 16 MB and fail with 64 MB: glibc reserves 64 MB for a thread's heap if it can.
    """
    said = outcomes("""
used = psutil.Process().memory_info().vms
for value in (used >> 1, used, used + (1 << 20), used + (16 << 20), used + (64 << 20), used + (8 << 30)):
    say(tried(resource.RLIMIT_AS, value))
    assert nothing_is_left(before)
    """)
    assert clear(said[0], "ulimit -v", "emory"), said
    assert all(outcome == "runs" or clear(outcome, "ulimit -v", "emory") for outcome in said), said
    assert said[-1] == "runs", said


def may_become_somebody():
    """Return whether a process may change to a user without other processes who can run this interpreter."""
    if os.getuid() != 0:
        return False
    try:
        return subprocess.run([sys.executable, "-c", ""], user=SOMEBODY).returncode == 0
    except OSError:
        return False


as_somebody = pytest.mark.skipif(
    not may_become_somebody(), reason="root has no such limit, and no other user can run this interpreter here"
)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may change to a user without other processes")
@pytest.mark.parametrize(
    "method", ["fork", pytest.param("forkserver", marks=as_somebody), pytest.param("spawn", marks=as_somebody)]
)
def test_too_few_processes_are_an_error_at_start_and_leak_nothing(method):
    """Root has no such limit, so the trainer changes to a user with a limit and without other processes."""
    script = f"""{PRELUDE}
os.setuid({SOMEBODY})
for value in (1, 2, 3, 4, 200):
    print(tried(resource.RLIMIT_NPROC, value, "{method}"), flush=True)
    assert nothing_is_left(before)
"""
    with Trainer(script) as trainer:
        code, output = trainer.ended()
    assert code == 0, output
    assert runs_at_last(output.splitlines(), "Resource temporarily unavailable", "ulimit -u"), output


def test_limit_reached_during_a_run_is_an_error_and_the_pool_continues():
    """A worker crashes when no descriptors are left: the `next` raises an error, and the following one tries again."""
    said = outcomes("""
class Dying(Numbers):
    def __getitem__(self, index):
        if index == 5 and not os.path.exists(self.fuse):
            open(self.fuse, "w").close()
            os._exit(3)
        return super().__getitem__(index)
import tempfile
with tempfile.TemporaryDirectory() as folder, Loader(Dying(8), workers=1, max_queue_size=1) as loader:
    loader.source.fuse = folder + "/fuse"
    batches = iter(loader)
    found = [int(next(batches)[0]) for _ in range(5)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        next(batches)
    except OSError as error:
        text = str(error)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    say(text)
    say(*found, *(int(batch[0]) for batch in loader))
    """)
    assert "Too many open files" in said[0] or "ulimit -n" in said[0]
    assert said[1] == "0 1 2 3 4 5 6 7"  # a new loop continues after the error
