"""Helpers for the operating system: descriptors, signals, forks, and the end of processes.

The modules, from the bottom up. A module imports only from its own line and the lines above it::

    platform_support.py abilities of this system
    signals/            deferred and allowed signals; locks and threads that a handler cannot break
    descriptors/        descriptors, open files and memory maps across forks
    user_code/          objects, exceptions and modules of user code
    units.py            numbers as strings with a suitable unit
    process_cache.py    a cache of open files and decoded parts, separate in each process
    callers.py          the callers of a function: a line of user code, functions of other libraries
    program_streams.py  standard output and error, which the program may have closed or replaced
    processes/          processes: their start, their end, their limits
    log.py              the package's logger
    standard_input.py   standard input of worker processes: a terminal, or an error
    paths/              files and folders that only this user can write to
"""
