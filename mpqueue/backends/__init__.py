"""The trainer's side of workers: start, feed, supervise and replace them; and the backends without worker processes.

A module imports only from its own line and the lines above it::

    job.py               the source and settings of a backend
    sending/             the source on its way to the workers
    start/               how worker processes start: fork server, fork, spawn
    processes/           the pool of worker processes
    ray/
    active_iterators.py  iterators that threads of a stopped enqueuer still use
    waiting_consumers.py the consumers that wait for worker threads
    in_process.py        the common part of the two backends without worker processes
    threads.py           the backend of threads
    inline.py            the backend without workers
    creation.py          creates the backend of a job
"""
