"""The inside of a worker: its main loop, the runner of the source, and what user code may ask there.

From the ground up; a module imports only from its own line and the lines above it::

    retry_markers.py           which sample of a lane its worker is at, told before it may kill
    sample_block.py            samples for a function that a loop in C calls
    shared_generator_check.py  tells of draws from generators that threads share
    records.py                 fixed-size messages on the two pipes of a worker, lists of samples in a slot
    context.py                 what user code may ask in a worker
    helper_threads.py          threads that compute samples for a worker, results in order
    thread_choice.py           whether they pay, or the worker's own thread computes a batch alone
    config.py                  what a worker process is started with
    tensorflow_rng.py          the numbers of tf.random, seeded where TensorFlow is imported
    torch_info.py              torch's get_worker_info(), in workers
    failures.py                exceptions across processes, and batches that cannot be unpickled
    user_generators.py         random generators that a source keeps, seeded for each batch
    shuffle_detection.py       notices an order that the first item of a source has drawn
    runner.py                  runs a source with an index: an item; a batch that is timed, with the work of its stages
    lanes.py                   a stream in lanes: what the source of one is asked
    sample_runner.py           runs a source of samples: a batch of them
    threaded_samples.py        runs a source of samples in several threads
    elements.py                the elements of an iterator, or so many in a row as a batch
    generator_lanes.py         lanes of generator functions; bare iterators
    lane_runner.py             runs the lanes that a worker has, and takes their snapshots
    runners.py                 makes what runs the source of a worker
    source_receive.py          the source as bytes: how a worker rebuilds it; a stand-in for Keras's PyDataset
    main.py                    the life of a worker process
"""
