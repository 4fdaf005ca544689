"""The input toolbox of TensorFlow 1: coordinator, queues, readers, parsing, producers and batching.

The engine does not need it, and imports nothing of it; a test says so.

From the ground up; a module imports only from its own line and the lines above it::

    coordination/    members, cancellation, proxies in other processes
    coordinator.py   threads and processes that stop together
    parsing/         text, CSV, JSON and Example records as arrays
    images/          images as arrays
    queues/          queues within a process and between processes
    readers/         files as records
    python_io.py     TFRecord files without a reader and a queue
    runs/            how operations are computed for many records at once
    train/           producers, batching and queue runners
    serving/         queues that a server keeps for several programs
    compat/          all of it behind TensorFlow 1's own names
    root.py          the names in ``tf`` itself, for `mpqueue.train` and the root of mpqueue
"""
