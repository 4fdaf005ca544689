"""The parts of ``scripts/soak``.

From the bottom layer up; a module imports only from its own line and the lines above it::

    content.py   the expected content of each batch, computed from its numbers
    faults.py    faults inside workers, and faults from outside
    sources.py   sources that yield the content and cause the faults
    rounds.py    one load from its start to its stop
    apart.py     rounds in a separate process that is killed
    alarms.py    calls that a signal interrupts at a random moment
    struck.py    loads with interrupted calls
    interrupts.py  signals that interrupt all of these loads, and what they lose or repeat
    growth.py    growth of memory, descriptors, threads and processes, also in one long load
    attached.py  the processes of a server and its consumers
    services.py  servers and consumers that are killed, stopped and replaced
    command.py   the command line
"""
