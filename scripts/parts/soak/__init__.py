"""The parts of ``scripts/soak``.

From the ground up; a module imports only from its own line and the lines above it::

    content.py   what each batch must be, computed from its numbers
    faults.py    faults inside of workers, and what is done to workers from outside
    sources.py   sources that give the content and carry the faults
    rounds.py    one load from its start to its stop
    apart.py     rounds in a process of their own: one that is killed, or one whose /dev/shm is full
    alarms.py    calls that a signal strikes at a random moment
    struck.py    loads whose calls are struck
    interrupts.py  signals that strike all of these loads
    growth.py    growth of memory, descriptors, threads and processes
    attached.py  the processes of a server and its consumers
    services.py  servers and consumers that are killed, stopped and replaced
    command.py   the command line
"""
