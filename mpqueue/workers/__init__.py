"""The processes and threads that run a source.

From the ground up; a module imports only from its own line and the lines above it::

    records.py             fixed-size messages on the two pipes of a worker, lists of samples in a slot
    context.py             what user code may ask in a worker
    unreadable.py          batches that cannot be unpickled in the trainer
    torch_info.py          torch's get_worker_info(), in workers
    failures.py            exceptions across processes
    kept_generators.py     random generators that a source keeps, seeded for each batch
    order_watch.py         notices an order that the first item of a source has drawn
    grants.py              the grants of a worker, as it reads them
    stages.py              the parts of a batch's time
    runner.py              runs a source: an item, or the next element of a stream
    sample_runner.py       runs a source of samples: a batch of them
    source_receive.py      the source as bytes: how a worker rebuilds it
    worker_main.py         the life of a worker process
    job.py                 what a backend is to run, and how
    open_handles.py        files and databases that a source holds open
    left_inside.py         iterators in which threads of a stopped enqueuer are still at work
    slow.py                batches that are waited for too long
    threads.py             the backend of threads
    inline.py              the backend without workers
    stand_ins.py           what stands in a worker for Keras's PyDataset
    mapped_files.py        arrays that are memory maps of files
    source_send.py         the source as bytes: images, and patches of them
    kept_source.py         the large buffers of a source in shared memory
    nursery_messages.py    messages between trainer and nursery
    nursery.py             the clean process from which workers are forked
    launcher.py            the protocol of launchers, and the trainer's end of a nursery
    forker.py              workers forked from the trainer
    lifecycle.py           the states of one worker
    handle.py              the trainer's handle of one worker: pipes, and work that it was granted
    orphans.py             workers whose nursery is gone
    roster.py              all workers of a pool: start, kill, end
    pool.py                what the parts of a pool share; starts with the list of parts
    source_sync.py         which worker has which version of the source
    incidents.py           messages about starts, ends, deaths, and the ring
    pressure.py            memory for workers that lack it
    hang.py                the stacks of workers, and the end of those that hang
    reuse.py               large slots that have memory before those that have none
    dispatcher.py          the hot path: grants and reports
    blame.py               which ticket a death is counted against
    supervision.py         replaces the dead
    process.py             the backend of worker processes
    backends.py            makes the backend of a job
"""
