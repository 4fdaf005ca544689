"""The trainer's side of workers: who starts them, gives them work, and replaces them; and the other backends.

From the ground up; a module imports only from its own line and the lines above it::

    job.py                   what a backend is to run, and how
    open_handles.py          files and databases that a source holds open
    active_iterators.py      iterators in which threads of a stopped enqueuer are still at work
    mapped_files.py          arrays that are memory maps of files
    shared_tensors.py        torch's tensors in shared memory
    source_send.py           the source as bytes: images, and patches of them
    kept_source.py           the large buffers of a source in shared memory
    fork_server_messages.py  messages between trainer and fork server
    entry_code.py            command lines of the interpreters that become a fork server, or a worker
    fork_server.py           the clean process from which workers are forked
    launcher.py              the protocol of launchers, and the trainer's end of a fork server
    forker.py                workers forked from the trainer
    handle.py                the trainer's handle of one worker: its life, its pipes, and work that it was granted
    lane_owners.py           which worker has which lane of a stream
    roster.py                all workers of a pool: start, kill, end
    pool.py                  what the parts of a pool share; starts with the list of parts
    source_watch.py          whether the source has changed, without pickling all of it
    source_sync.py           which worker has which version of the source
    incidents.py             messages about starts, ends, deaths, and the ring
    memory_pressure.py       memory for workers that lack it
    hang.py                  batches that are waited for too long, and workers that hang
    dispatcher.py            the hot path: grants and reports
    crash_attribution.py     which work item a death is counted against
    supervision.py           replaces the dead
    autosize.py              how many workers pay
    process.py               the backend of worker processes
    in_process.py            what the two backends below share, which have no worker processes
    threads.py               the backend of threads
    inline.py                the backend without workers
    backends.py              makes the backend of a job
"""
