"""Eager producers, batching functions and queue runners; `mpqueue.train` exports their names.

Modules, from the lowest layer to the highest::

    arrays.py               values in place of TensorFlow's tensors
    local_variables.py      state that local_variables_initializer resets
    matching.py             match_filenames_once
    epochs.py               limit_epochs
    placeholders.py         placeholder, and run, which feeds placeholders
    holding.py              objects that a source refers to: queues, epoch counters, placeholders
    looper.py               LooperThread
    record_runs.py source_runs.py   enqueue ops for runs of records, also from sources
    process_op.py           an enqueue op in a worker process
    queue_runner_def.py     QueueRunnerDef, a serialized queue runner
    queue_runner.py         QueueRunner
    collections.py          add_queue_runner and start_queue_runners
    examples.py             one Source of examples, made from the tensors of a batching function
    producers.py            string_input_producer and the other producers
    batch_op.py             the next batch, as a callable and an iterable
    inputs.py               the inputs of a batch, with its queue and runner, for eager and graph mode
    batching.py             batch, batch_join, shuffle_batch, shuffle_batch_join
"""
