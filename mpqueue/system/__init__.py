"""Helpers for the operating system: descriptors, signals, forks, and the end of processes.

The modules, from the bottom up. A module imports only from its own line and the lines above it::

    platform_support.py abilities of this system
    keywords.py         errors for unknown keyword arguments, and their remedies
    units.py            numbers as strings with a suitable unit
    locks.py            locks that a signal handler cannot leave locked
    process_cache.py    a cache of open files and decoded parts, separate in each process
    callers.py          the callers of a function: a line of user code, functions of other libraries
    extras.py           optional packages: whether they are installed, and their import
    imports.py          calls a function when a module is imported
    cpus.py             the CPUs of this process
    exceptions.py       reads and changes exceptions of user code without running it
    contexts.py         context managers for blocks that run user code
    interrupts.py       defers signal handlers, or allows them
    limits.py           limits of control groups for CPUs and memory
    group_signals.py    signals of the process group that only the trainer handles
    iterators.py        reads iterators of user code without calling their `__iter__` again
    exception_texts.py  texts of exceptions of user code
    contents.py         searches the contents of an object within bounds
    memory_maps.py      the memory maps of this process
    shared_state.py     finds memory in an object that other programs can write to
    collected.py        calls a function when an object is collected
    replacement.py      replaces attributes of other libraries while they are needed
    descriptors.py      descriptors that forked children must not keep
    open_files.py       open files across a fork
    condition.py        a condition variable that a signal handler cannot leave locked
    living.py           sets of weak references that any thread may add to
    held_descriptors.py descriptors that are closed with their last reference
    forked.py           disables the copies of objects in forked children
    own_process.py      distinguishes this process from its forked children
    parent_death.py     ends a process together with its owner
    inheritance.py      properties that a process inherits when it starts
    processes.py        notices the end of other processes, and sends signals to them
    program_streams.py  standard output and error, which the program may have closed or replaced
    leaving.py          ends processes that run user code, and children that this code forks
    process_name.py     the name of a process in `ps`
    log.py              the package's logger
    standard_input.py   standard input of worker processes: a terminal, or an error
    folders.py          folders that only this user can write to
    own_files.py        files that this package reads back: their owner, and their seal
    lock_files.py       files that a process locks while it uses something
    safe_threads.py     threads that do not prevent a fork
    joined_threads.py   threads that can be joined in spite of Ctrl-C
    child_process.py    makes a worker a child process in the sense of `multiprocessing`
    hash_seed.py        the same order of sets of strings in all workers
    wakeup.py           wakes another thread
    oom.py              kills by the kernel's out-of-memory killer
"""
