"""Calls at the same time, each in its own thread or process."""

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor

from helpers.deadlock import DEADLOCK_S


def in_threads(*calls):
    """Call functions at the same time, each in its own thread; return their results, or raise an error of a call."""
    together = threading.Barrier(len(calls))

    def begin(call):
        together.wait(DEADLOCK_S)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(begin, calls, timeout=DEADLOCK_S))


def in_processes(call, cases, method="fork"):
    """Call a function with each tuple of arguments at the same time, each in its own process."""
    context = multiprocessing.get_context(method)
    begin = context.Event()
    processes = [context.Process(target=_call_later, args=(begin, call, *arguments)) for arguments in cases]
    for process in processes:
        process.start()
    begin.set()
    for process in processes:
        process.join()
        assert process.exitcode == 0
        process.close()


def _call_later(begin, call, *arguments):
    assert begin.wait(DEADLOCK_S)
    call(*arguments)
