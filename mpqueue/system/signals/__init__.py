"""Signal handlers: deferred, allowed; locks and threads that a handler cannot break.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    locks.py          locks that a signal handler cannot leave locked
    exceptions.py     reads and changes exceptions of user code without running it
    contexts.py       context managers for blocks that run user code
    masks.py          signals that a thread blocks
    deferred.py       defers signal handlers, or allows them
    interrupts.py     whether a signal handler has raised an exception
    group_signals.py  signals of the process group that only the trainer handles
    collected.py      calls a function when an object is collected
    condition.py      a condition variable that a signal handler cannot leave locked
    weak_sets.py      sets of weak references that any thread may add to
    safe_threads.py   threads that do not prevent a fork
    joined_threads.py threads that can be joined in spite of Ctrl-C
"""
