"""Threads that a main thread joins while its signal handlers raise."""

import signal
import subprocess
import sys
import threading
from unittest.mock import Mock

import pytest
from helpers.alarms import Alarm

from mpqueue.system.signals.joined_threads import JoinedThread


class Interrupted(Exception):
    pass


def test_interrupted_join_still_waits_for_thread():
    may_end, has_ended = threading.Event(), threading.Event()
    thread = JoinedThread(lambda: (may_end.wait(), has_ended.set()), "waited for")
    thread.start()
    for _ in range(3):
        with pytest.raises(Interrupted), Alarm(Interrupted) as alarm:
            alarm.set()
            thread.join()
        assert thread.is_alive()
    thread.join(0.01)
    assert thread.is_alive()
    may_end.set()
    thread.join()
    assert has_ended.is_set()
    assert not thread.is_alive()


def test_signal_received_by_library_thread_interrupts_join():
    code = """
import os, signal, sys, threading, time
from mpqueue.system.signals.joined_threads import JoinedThread

def of_library():
    while main.native_id not in waiting():
        pass
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)  # as if the kernel had chosen this thread
    threading.Event().wait()  # never set

def waiting():  # in the kernel, for a lock
    with open(f"/proc/self/task/{main.native_id}/wchan") as file:
        return [main.native_id] if "futex" in file.read() else []

main = threading.main_thread()
signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
thread = JoinedThread(threading.Event().wait, "waited for")
thread.start()
threading.Thread(target=of_library, daemon=True).start()
thread.join()
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=50).returncode == 7


def test_thread_blocks_all_signals_except_its_own_errors():
    kept_out = []
    thread = JoinedThread(lambda: kept_out.extend(signal.pthread_sigmask(signal.SIG_BLOCK, ())), "looks")
    thread.start()
    thread.join()
    assert {signal.SIGINT, signal.SIGTERM, signal.SIGCHLD} <= set(kept_out)
    assert not {signal.SIGSEGV, signal.SIGBUS} & set(kept_out)


def test_thread_that_cannot_be_started_is_os_error(monkeypatch):
    started = "_start_joinable_thread" if hasattr(threading, "_start_joinable_thread") else "_start_new_thread"
    monkeypatch.setattr(threading, started, Mock(side_effect=RuntimeError("can't start new thread")))
    with pytest.raises(OSError, match="can't start new thread; check `ulimit -u`"):
        JoinedThread(print, "refused").start()
