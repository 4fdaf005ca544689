"""The input pipeline of TensorFlow 1: coordinator, queues, readers, parsing, producers and batching.

The rest of mpqueue works without this package: only the modules that mirror TensorFlow's names import it
(`mpqueue.train`, `mpqueue.python_io` and `mpqueue.compat.v1`), and `mpqueue.service.server` loads it for clients that
ask for queues. A test deletes this package and runs the others.

From the ground up; a module imports only from its own line and the lines above it::

    values/          values and static shapes by TensorFlow's rules
    coordination/    members, cancellation, sockets, proxies in other processes
    coordinator.py   threads and processes that stop together
    parsing/         text, CSV, JSON and Example records as arrays
    images/          images as arrays
    queues/          queues within a process and between processes
    readers/         files as records
    python_io.py     TFRecord files without a reader and a queue
    runs/            how operations are computed for many records at once
    train/           producers, batching and queue runners
    serving/         queues that a server keeps for several programs
    compat/          the API for existing scripts, with graphs and sessions
    root.py          the names in ``tf`` itself, for `mpqueue.train` and the root of mpqueue
"""
