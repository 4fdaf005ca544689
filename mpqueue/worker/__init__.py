"""The inside of a worker: its main loop, the runners of the source, and the functions that user code may call.

A module imports only from its own line and the lines above it::

    retry_markers.py           report the present sample of a lane, in case it crashes the worker
    sample_block.py            samples for a function that is called by a loop in C
    shared_generator_check.py  warns if the source draws from generators that threads share
    stuck.py                   coroutines that do not go on
    records.py                 fixed-size messages on the two pipes of a worker, lists of samples in a slot
    context.py                 functions for user code in a worker: `worker_info`, `rng`, `empty`, `stack`
    helper_threads.py          threads that compute samples for a worker
    event_loop.py              the event loop of a process, in its own thread
    coroutines.py              coroutines in place of helper threads
    in_order.py                calls that threads or coroutines compute at once, with results in order
    async_iterators.py         the elements of asynchronous generators, one by one
    async_sources.py           ``worker_init`` and ``aclose`` in the event loop; plain iterators
    config.py                  settings, descriptors and payload of a new worker process
    tensorflow_rng.py          seeding of tf.random, if TensorFlow is imported
    torch_info.py              torch's get_worker_info() in workers
    failures.py                exceptions across processes, and batches that cannot be unpickled
    user_generators.py         random generators that a source keeps, seeded for each batch
    shuffle_detection.py       detects an order that the first item of a source has drawn
    runner.py                  runs a source with an index; timed batches, with the work of their stages
    fixed_seeds.py             random numbers of the elements before a cache
    lanes.py                   the protocol of sources with lanes
    sample_runner.py           runs a source of samples, one batch at a time
    in_flight.py               runs a source with several samples in flight
    coroutine_runners.py       run a source with coroutines
    elements.py                elements of an iterator, one by one or in batches
    generator_lanes.py         lanes of generator functions; plain iterators
    lane_runner.py             runs the lanes of a worker, and takes their snapshots
    runners.py                 creates the runner of a source
    source_receive.py          rebuilds the source in a worker; a replacement of Keras's PyDataset
    main.py                    the main loop of a worker process
"""
