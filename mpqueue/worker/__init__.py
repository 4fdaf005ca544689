"""The inside of a worker: its main loop, the runners of the source, and the functions that user code may call.

A module imports only from its own line and the lines above it::

    retry_markers.py    report the present sample of a lane, in case it crashes the worker
    queue_address.py    the addresses at which workers find queues by their shared names
    sample_block.py     samples for a function that is called by a loop in C
    context.py          functions for user code in a worker: `worker_info`, `rng`, `empty`, `stack`
    config.py           settings, descriptors and payload of a new worker process
    process_settings.py the signals, streams and heap of a fork server or worker
    torch_info.py       torch's get_worker_info() in workers
    failures.py         exceptions across processes, and batches that cannot be unpickled
    random_state/       random generators of libraries and of user code
    concurrency/        samples computed at once: threads, coroutines, the event loop
    records.py          fixed-size messages on the two pipes of a worker, lists of samples in a slot
    runners/            run a source in a worker: by index, in lanes, from a generator
    batch_timing.py     times some batches
    placing.py          writes outcomes into slots, and requests memory if it is lacking
    source_receive.py   rebuilds the source in a worker; a replacement of Keras's PyDataset
    main.py             the main loop of a worker process
"""
