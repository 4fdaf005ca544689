"""The input part of ``tf.train``: queue runners, producers, batches, the global step.

Modules, from the lowest layer to the highest::

    record_runs.py   enqueue operations for many records at once
    processes.py     enqueue operations in worker processes
    runners.py       QueueRunner, add_queue_runner and start_queue_runners
    producers.py     string_input_producer and similar functions, limit_epochs
    examples.py      the inputs of a batch: lists or dicts of tensors
    batching.py      batch and similar functions
    steps.py         the global step
"""
