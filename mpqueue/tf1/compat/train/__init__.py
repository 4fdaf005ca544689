"""The part of ``tf.train`` that feeds a model: queue runners, producers, batches, sessions that start the runners.

From the ground up::

    cluster.py       jobs, tasks and their addresses
    server.py        tf.train.Server
    record_runs.py   enqueue operations for many records at once
    processes.py     enqueue operations in worker processes
    runners.py       QueueRunner, and the collection that start_queue_runners starts
    producers.py     string_input_producer and its kin, limit_epochs
    examples.py      the inputs of a batch: lists or dicts of tensors
    batching.py      batch and its kin
    steps.py         the global step
    hooks.py         what a monitored session calls around each run
    scaffold.py      how a session is initialised
    monitored.py     monitored sessions
    supervisor.py    the supervisor, which they replaced
"""
