"""Trainers in unusual processes: daemonic, process 1, without standard streams, a working directory or new calls."""

import os
import shutil
import subprocess
import sys

import pytest
from helpers.declared_hangs import TIMEOUT_S
from helpers.quiet_trainers import lines_of
from helpers.trainer_processes import ran

import mpqueue

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("forked_trainers")]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_daemonic_process(method, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("""
import multiprocessing, sys
from mpqueue import Loader
def train():
    with Loader(range(8), workers=2) as loader:
        print(*loader, flush=True)
if __name__ == "__main__":
    process = multiprocessing.get_context(sys.argv[1]).Process(target=train, daemon=True)
    process.start()
    process.join()
    print(process.exitcode)
""")
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(mpqueue.__file__))}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(script), method]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("0 1 2 3 4 5 6 7\n0\n", "")


TRAIN = """
with Loader(Numbers(), workers=2, start_method=os.environ.get("METHOD", "forkserver")) as loader:
    say(*(int(batch[0]) for batch in loader))
mpqueue.shutdown()
"""


def test_daemon_after_a_double_fork():
    said = lines_of(f"""
__import__("warnings").simplefilter("ignore", DeprecationWarning)  # of 3.12, at every fork with threads
from helpers.forked_calls import fork_of
end, daemons_end = os.pipe()
def train():
    exec({TRAIN!r}, globals())
def begin_daemon():
    os.setsid()
    fork_of(train)
fork_of(begin_daemon)
os.close(daemons_end)
os.wait()
os.read(end, 1)
""")
    assert said == ["0 1 2 3 4 5 6 7"]


AS_INIT = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def may_unshare():
    return shutil.which("unshare") and subprocess.run([*AS_INIT, "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not may_unshare(), reason="cannot create a process namespace")
@pytest.mark.parametrize("method", ["forkserver", "fork"])
def test_process_1_leaves_no_zombie(method):
    """Process 1 inherits orphans: workers of a fork server that was killed."""
    script = """
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
"""
    said = lines_of(script, command=AS_INIT, env={"METHOD": method})
    assert said == ["0 1 2 3 4 5 6 7", "0 1 2 3 4 5 6 7 0 1 2 3", "[]"]


@pytest.mark.parametrize("method", ["forkserver", "fork", "spawn"])
def test_no_descriptor_for_batches_has_the_number_of_a_standard_stream(method):
    """Output of C code would be written to it."""
    script = """
for fd in range(3):
    os.close(fd)
def carriers():
    shown = [os.readlink(link) for link in map("/proc/self/fd/{}".format, range(3)) if os.path.lexists(link)]
    return [each for each in shown if each.startswith(("pipe:", "socket:", "/memfd:", "/dev/shm/"))]
class Carriers(Numbers):
    def __getitem__(self, index):
        return len(carriers())
with Loader(Carriers(1), workers=1, start_method=os.environ["METHOD"]) as loader:
    found = [*loader, carriers()]
    say(*found)
mpqueue.shutdown()
"""
    said, _ = ran(script, env={"METHOD": method})
    assert said == ["0 []"]


KEPT = {
    "a loader": """
class Large(Numbers):
    kept = np.zeros(1 << 20)
with Loader(Large(), workers=1, trace=FOLDER + "/trace") as loader:
    for _ in range(2):  # the second loop compares the source with the sent version
        next(iter(loader))
        found()
""",
    "a server": """
with mpqueue.Server(FOLDER + "/server", Numbers(), workers=1, journal=FOLDER + "/journal"):
    with mpqueue.attach(FOLDER + "/server", timeout=30) as consumer:
        next(iter(consumer))
        found()
""",
    "a cache": """
for cached in (mpqueue.Dataset.range(4).cache(), mpqueue.Dataset.range(4).cache(FOLDER)):
    with Loader(cached) as loader:
        for _ in range(2):
            list(loader)
            found()
""",
}


@pytest.mark.parametrize("what", KEPT)
def test_no_long_lived_descriptor_has_the_number_of_a_standard_stream(what, tmp_path):
    """Output of C code would be written to it, and a `dup2` of the program would replace it by a stream."""
    said, _ = ran(f"""
def found():
    say(*(os.readlink(link) for link in map("/proc/self/fd/{{}}".format, range(3)) if os.path.lexists(link)))
FOLDER = {str(tmp_path)!r}
for fd in range(3):
    os.close(fd)
{KEPT[what]}
mpqueue.shutdown()
""")
    assert len(said) >= 1
    assert set(said) == {""}


@pytest.mark.parametrize(("method", "closed"), [("forkserver", "1"), ("forkserver", "2"), ("spawn", "0 1 2")])
def test_closed_standard_streams_are_dev_null_in_workers(method, closed):
    script = f"""
class Streams(Numbers):
    def __getitem__(self, index):
        return np.array([os.readlink(f"/proc/self/fd/{{fd}}") == os.devnull for fd in range(3)])
for fd in {closed.split()}:
    os.close(int(fd))
with Loader(Streams(1), workers=1, start_method={method!r}) as loader:
    say(*next(iter(loader)).astype(int))
mpqueue.shutdown()
"""
    said, _ = ran(script)
    assert said == [" ".join(str(int(fd in {"0", *closed.split()})) for fd in "012")]


LIBRARY = """
import os, sys
os.open("/", os.O_RDONLY)  # kept open, as the libffi of Debian keeps its file
sys.path.remove(os.path.dirname(__file__))
del sys.modules["ctypes"]
import ctypes
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_files_of_libraries_are_not_standard_streams_of_workers(method, tmp_path):
    """A worker that prints would otherwise write to that file."""
    (tmp_path / "ctypes.py").write_text(LIBRARY)
    said, _ = ran(f"""
class Opened(Numbers):
    def __getitem__(self, index):
        links = [f"/proc/self/fd/{{fd}}" for fd in range(40)]
        places = [os.readlink(link) for link in links if os.path.lexists(link)]
        return np.array([places[1] == os.devnull, "/" in places])
for fd in range(2):
    os.close(fd)
sys.path.insert(0, {str(tmp_path)!r})
with Loader(Opened(1), workers=1, start_method={method!r}) as loader:
    say(*next(iter(loader)).astype(int))
mpqueue.shutdown()
""")
    assert said == ["1 1"]


def test_read_only_working_directory(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir(0o500)
    assert lines_of(f"os.chdir({str(folder)!r})\n{TRAIN}") == ["0 1 2 3 4 5 6 7"]
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(sys.version_info[:3] == (3, 13, 0), reason="Python 3.13.0 cannot import from a deleted folder")
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_deleted_working_directory(method, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    # The output is not checked: Python's own resource tracker may print a message.
    said, _ = ran(f"os.chdir({str(folder)!r})\nos.rmdir({str(folder)!r})\n{TRAIN}", env={"METHOD": method})
    assert said == ["0 1 2 3 4 5 6 7"]


@pytest.mark.parametrize("method", ["forkserver", "fork"])
def test_line_of_a_crashing_worker_to_a_pipe_is_not_lost(method):
    script = """
class Printing(Numbers):
    def __getitem__(self, index):
        if index == 2 and not os.path.exists(OUT + ".burnt"):
            open(OUT + ".burnt", "w").close()
            print("a line")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)
with Loader(Printing(), workers=1, start_method=os.environ["METHOD"]) as loader:
    say(*(int(batch[0]) for batch in loader))
"""
    said, output = ran(script, env={"METHOD": method, "PYTHONUNBUFFERED": ""})
    assert said == ["0 1 2 3 4 5 6 7"]
    assert output == "a line\n"


_EPOCHS = """
from helpers.forked_calls import exit_at_once
from helpers.declared_hangs import Stopped, judge_by
from helpers.faults import burns
from helpers.waits import until
def is_killed(fuse):
    os.kill(os.getpid(), signal.SIGKILL)
def kills_its_fork_server(fuse):
    os.kill(os.getppid(), signal.SIGKILL)
    hang()
def hangs(fuse):
    os.kill(os.getpid(), signal.SIGSTOP)
def is_killed_with_a_running_child(fuse):
    # The child inherits the worker's pipes, but not the life pipe. It exits by itself if the tests are killed.
    os.fork() and os.kill(os.getpid(), signal.SIGKILL)
    until(lambda: os.path.exists(fuse + ".end"), "the test does not end")
    exit_at_once(0)
def closes_all_its_descriptors(fuse):
    os.closerange(3, 200)
    hang()
class Struck(Numbers):
    def __init__(self, strike):
        super().__init__(8)
        self.strike, self.fuse = strike, OUT + strike.__name__
    def __getitem__(self, index):
        assert not hasattr(os, "pidfd_open")
        if index == 5 and burns(self.fuse):
            self.strike(self.fuse)
        return super().__getitem__(index)
judge_by(Stopped())
for strike in map(globals().get, os.environ["STRIKES"].split()):
    source, timeout_s = Struck(strike), TIMEOUT if strike is hangs else None
    with OrderedEnqueuer(source, True, start_method=METHOD, batch_timeout=timeout_s) as enqueuer:
        enqueuer.start(2, 4)
        batches = enqueuer.get()
        say(strike.__name__, *(int(next(batches)[0]) for _ in range(16)), enqueuer.statistics().deaths)
    open(source.fuse + ".end", "w").close()
"""
_STRIKES = "is_killed", "hangs", "is_killed_with_a_running_child", "closes_all_its_descriptors"


@pytest.mark.parametrize(
    ("method", "strikes"),
    [("forkserver", (*_STRIKES, "kills_its_fork_server")), ("fork", _STRIKES), ("spawn", _STRIKES[:1])],
)
def test_workers_are_replaced_without_pidfds_and_memfds(method, strikes, tmp_path):
    # The trainer, the fork server and spawned workers import this first.
    without = "import os, signal; del os.pidfd_open, signal.pidfd_send_signal, os.memfd_create"
    (tmp_path / "sitecustomize.py").write_text(without)
    path = os.pathsep.join([str(tmp_path), os.path.dirname(os.path.dirname(__file__))])
    script = _EPOCHS.replace("METHOD", repr(method)).replace("TIMEOUT", repr(TIMEOUT_S))
    said, _ = ran(script, env={"PYTHONPATH": path, "STRIKES": " ".join(strikes)})
    twice = " ".join(map(str, 2 * list(range(8))))
    assert said == [f"{strike} {twice} {1 + (strike == 'kills_its_fork_server')}" for strike in strikes]
