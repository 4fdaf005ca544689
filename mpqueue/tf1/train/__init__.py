"""Producers, batching and queue runners, eager; their names are those of `mpqueue.train`.

From the ground up::

    arrays.py               values that stand where TensorFlow has tensors
    local_variables.py      what local_variables_initializer resets
    matching.py             match_filenames_once
    epochs.py               limit_epochs
    placeholders.py         placeholder, and run, which feeds it
    holding.py              what a source holds: queues, counts of epochs, placeholders
    looper.py               LooperThread
    record_runs.py source_runs.py   enqueue ops in runs of records, and those of sources of records
    process_op.py           an enqueue op in a worker process
    queue_runner_def.py     QueueRunnerDef, a queue runner by names
    queue_runner.py         QueueRunner
    collections.py          the queue runners that start_queue_runners starts
    examples.py             one Source of examples, made of the tensors of a batching function
    producers.py            string_input_producer and the other producers
    batch_op.py             the next batch, called or iterated
    inputs.py               the inputs of a batch, with its queue and runner: the body of both faces
    batching.py             batch, batch_join, shuffle_batch, shuffle_batch_join
"""
