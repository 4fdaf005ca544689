"""The trainer's side of workers: start, feed, supervise and replace them; and the backends without worker processes.

A module imports only from its own line and the lines above it::

    job.py                   the source and settings of a backend
    open_handles.py          files and databases that a source holds open
    active_iterators.py      iterators that threads of a stopped enqueuer still use
    mapped_files.py          arrays that are memory maps of files
    shared_tensors.py        torch tensors in shared memory
    source_send.py           the source as bytes: images, and patches of them
    kept_source.py           the large buffers of a source in shared memory
    fork_server_messages.py  messages between trainer and fork server
    entry_code.py            command lines of the interpreters that become a fork server or a worker
    fork_server.py           the clean process that forks workers
    launcher.py              the protocol of launchers, and the trainer's end of a fork server
    forker.py                workers forked from the trainer
    handle.py                the trainer's handle of one worker: its state, pipes and granted work
    lane_owners.py           which worker runs which lane of a stream
    roster.py                all workers of a pool: start, kill, end
    source_watch.py          detects changes of the source without pickling all of it
    source_sync.py           which worker has which version of the source
    pool.py                  the state that the parts of a pool share; starts with the list of parts
    incidents.py             warnings about starts, exits, crashes and the ring
    memory_pressure.py       memory for workers that lack it
    hang.py                  batch timeouts, and workers that hang
    dispatcher.py            the hot path: grants and reports
    crash_attribution.py     which work item a crash is counted against
    supervision.py           replaces crashed workers
    autosize.py              chooses the number of workers
    process.py               the backend of worker processes
    in_process.py            the common part of the two backends without worker processes
    threads.py               the backend of threads
    inline.py                the backend without workers
    backends.py              creates the backend of a job
"""
