"""The interpreter that is begun with the first use of a name whose batches come from workers."""

import os
import select
import signal
import socket
import subprocess
import sys
import textwrap

import pytest

from mpqueue.workers import nursery

PRELUDE = """
import os, signal, sys
import numpy as np
import mpqueue

class Seen:
    def __len__(self):
        return 1
    def __getitem__(self, index):
        return {"parent": os.getppid(), "folder": os.getcwd(), "word": os.environ.get("WORD", "")}

def seen(**options):
    with mpqueue.Loader(Seen(), batch_size=None, workers=1, **options) as loader:
        (batch,) = loader
    return batch

def early():
    return sys.modules["mpqueue.workers.interpreter"]._early
"""


def says(script, *args, file=None, status=0):
    """Run a script to its end; the words that it has printed."""
    text = textwrap.dedent(script)
    command = [sys.executable, *args] + (["-c", PRELUDE + text] if file is None else [file])
    if file is not None:
        file.write_text(text)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (status, ""), done.stderr
    return done.stdout.split()


def test_it_is_begun_by_the_name_and_not_by_the_package_and_serves_the_first_stream():
    assert says("""
        mpqueue.Sequence, mpqueue.FIFOQueue
        print("mpqueue.workers.interpreter" in sys.modules)
        mpqueue.OrderedEnqueuer
        begun = early().process.pid
        print(seen()["parent"] == begun, seen()["parent"] == begun, early())
    """) == ["False", "True", "True", "None"]


def test_it_serves_one_whose_workers_are_interpreters_of_their_own():
    assert says("""
        mpqueue.Loader
        begun = early().process.pid
        print(seen(start_method="spawn")["parent"] == begun)
    """) == ["True"]


def test_workers_have_what_the_trainer_has_at_the_start(tmp_path):
    (tmp_path / "later.py").write_text("from os import getcwd")
    assert says(f"""
        mpqueue.Loader
        begun = early().process.pid
        os.chdir({str(tmp_path)!r})
        os.environ["WORD"] = "later"
        sys.path.insert(0, {str(tmp_path)!r})
        import later
        Seen.later = later.getcwd  # by reference
        found = seen()
        print(found["parent"] == begun, found["folder"], found["word"])
    """) == ["True", str(tmp_path), "later"]


def test_one_of_a_trainer_that_was_another_is_ended_and_not_used():
    """What a process inherits at its start, nobody can give it later; a parked nursery has the same lack."""
    assert says("""
        import resource
        mpqueue.Loader
        before = early().process
        os.umask(0o077)
        one = seen()["parent"]
        print(one != before.pid, before.returncode)
        parents = [one]
        limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        for change in (
            lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit - 1, most)),
            lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2),
            lambda: os.environ.update(NPY_DISABLE_CPU_FEATURES=""),
            lambda: None,
        ):
            change()
            parents.append(seen()["parent"])
        print(*(later != earlier for earlier, later in zip(parents, parents[1:])))
    """) == ["True", "-9", "True", "True", "True", "False"]


def test_a_first_stream_without_a_nursery_ends_it():
    assert (
        says("""
        mpqueue.Loader
        from mpqueue.workers import interpreter
        interpreter._is_gain = lambda: True
        for options in {"workers": 0}, {"backend": "thread"}, {"start_method": "fork"}:
            interpreter.begin_early()
            begun = early().process
            with mpqueue.Loader(Seen(), **{"batch_size": None, "workers": 1, **options}) as loader:
                print(*(batch["parent"] == os.getpid() for batch in loader), begun.returncode)
    """)[1::2]
        == ["-9"] * 3
    )


def test_its_death_before_it_is_needed_is_no_matter():
    assert says("""
        mpqueue.Loader
        begun = early().process
        begun.kill()
        print(seen()["parent"] != begun.pid, begun.returncode)
    """) == ["True", "-9"]


def test_a_name_is_there_also_where_no_process_can_be_started():
    assert says("""
        from mpqueue.workers import interpreter
        def refuse(*_, **__):
            raise BlockingIOError("too many processes")
        interpreter._start_interpreter = refuse
        print(mpqueue.Loader.__name__, early())
    """) == ["Loader", "None"]


@pytest.mark.parametrize(("end", "status"), [("", 0), ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL)])
def test_it_is_gone_with_a_trainer_that_never_needs_it(end, status, deadlock_s):
    said = says(
        f"""
        mpqueue.Loader
        print(early().process.pid, flush=True)
        {end}
        """,
        status=status,
    )
    try:
        sentinel = os.pidfd_open(int(said[0]))
    except ProcessLookupError:
        return
    assert select.select([sentinel], [], [], deadlock_s)[0]
    os.close(sentinel)


def test_it_ends_by_itself_if_nobody_needs_it(monkeypatch):
    monkeypatch.setattr(nursery, "PARK_S", 0.001)
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    ours, theirs = socket.socketpair()
    lifeline, write_end = os.pipe()
    with ours, theirs:
        waiting = nursery._Nursery(theirs, lifeline, is_early=True)
        waiting.serve()
    for fd in (lifeline, write_end, waiting._lifeline, waiting._lifeline_write):
        os.close(fd)


def test_none_is_begun_where_it_is_no_gain():
    assert says("""
        from mpqueue.workers import interpreter
        executable = sys.executable
        def refuse(*_, **__):
            print("begun")
            raise BlockingIOError
        interpreter._start_interpreter = refuse
        interpreter.begin_early()
        sys.ps1 = ">>> "
        interpreter.begin_early()
        del sys.ps1
        sys.frozen = True
        interpreter.begin_early()
        del sys.frozen
        sys.executable = "/opt/painter/painter"
        interpreter.begin_early()
        sys.executable = executable
        interpreter.begin_early()
        import mpqueue.workers.launcher
        interpreter.begin_early()
    """) == ["begun", "begun"]


def test_none_is_begun_in_processes_that_import_the_main_module_again(tmp_path):
    script = """
    import multiprocessing
    from mpqueue import Loader
    from mpqueue.workers import interpreter

    def look():
        print(interpreter._early is None, flush=True)

    if __name__ == "__main__":
        print(interpreter._early is not None, flush=True)
        for method in "spawn", "fork", "forkserver":
            process = multiprocessing.get_context(method).Process(target=look)
            process.start()
            process.join()
    """
    assert says(script, file=tmp_path / "main.py") == ["True"] * 4


def test_none_is_begun_in_a_worker():
    assert says("""
        class Inside(Seen):
            def __getitem__(self, index):
                mpqueue.Loader, mpqueue.OrderedEnqueuer
                return {"parent": sys.modules["mpqueue.workers.interpreter"]._early is None}
        Seen = Inside
        print(bool(seen()["parent"]), bool(seen(start_method="spawn")["parent"]))
    """) == ["True", "True"]
