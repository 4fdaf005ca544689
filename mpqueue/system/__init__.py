"""Process hygiene: descriptors, interrupts, forks and deaths, as the operating system deals them.

From the ground up; a module imports only from its own line and the lines above it::

    platform_support.py socket_support.py   what this system can do, all that asks which one it is; what its sockets can
    locks.py            a lock that no signal leaves taken
    replacement.py      an attribute of another library that is ours as long as somebody needs it
    callers.py          the user's line that has led here
    imports.py          a call when a module is imported
    contents.py         what an object holds, found within bounds
    cpus.py             the CPUs of this process
    limits.py           what control groups allow it of CPUs and of memory
    descriptors.py      descriptors that children must not keep
    open_files.py       open files across a fork
    interrupts.py       signal handlers deferred, or allowed
    condition.py        waits for what is changed under a lock, which no signal leaves taken
    collected.py        what is to be done when nobody holds an object any more
    living.py           sets of what lives, which any thread may add to
    forked.py           copies in forked children refuse to be used
    own_process.py      whether this process is still the one that began, or its child
    parent_death.py     a process dies with its owner
    inheritance.py      what a process has from its parent for good
    processes.py        ends of other processes, and signals to them
    leaving.py          the end of a process that runs code of the user's, and of children that this code forks
    process_name.py     the name of a process in `ps`
    log.py              the logger of this package
    folders.py          folders and files that belong to this user, and into which nobody else can put anything
    safe_threads.py     threads beside which a process may fork
    joined_threads.py   threads that may be waited for under Ctrl-C
    hash_seed.py        one order of sets of strings in all workers
    wakeup.py           the end of another thread's wait
    event_loops.py      waits in the event loop of asyncio or trio
    oom.py              kills by the kernel's out-of-memory killer
"""
