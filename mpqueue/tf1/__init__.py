"""The input pipeline of TensorFlow 1: coordinator, queues, readers, parsing, producers and batching.

The rest of mpqueue does not need this package. Only the modules with TensorFlow's names import it (`mpqueue.train`,
`mpqueue.python_io` and `mpqueue.compat.v1`). A test deletes this package and runs the other tests.

From the bottom layer up. A module imports only modules of the same line and of lines above::

    values/          values and static shapes by TensorFlow's rules
    coordination/    members, cancellation, sockets, proxies in other processes
    coordinator.py   stops threads and processes together
    parsing/         CSV, JSON, Example and raw records as arrays
    images/          images as arrays
    queues/          queues within a process and between processes
    readers/         files as records
    python_io.py     TFRecord files without a reader and a queue
    runs/            operations computed for many records at once
    train/           producers, batching and queue runners
    compat/          the API for existing scripts, with graphs and sessions
    root.py          the names of the ``tf`` namespace itself, for `mpqueue.train` and `mpqueue`
"""
