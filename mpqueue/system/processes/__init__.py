"""Processes: their start, their end, their limits.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    cpus.py          the CPUs of this process
    limits.py        limits of control groups for CPUs and memory
    forked.py        disables the copies of objects in forked children
    own_process.py   distinguishes this process from its forked children
    parent_death.py  ends a process together with its owner
    inheritance.py   properties that a process inherits when it starts
    processes.py     notices the end of other processes, and sends signals to them
    exit.py          ends processes that run user code, and children that this code forks
    process_name.py  the name of a process in `ps`
    child_process.py makes a worker a child process in the sense of `multiprocessing`
    hash_seed.py     the same order of sets of strings in all workers
    wakeup.py        wakes another thread
    oom.py           kills by the kernel's out-of-memory killer
"""
