"""The datasets of a loader as a source of workers.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    samples.py           the samples of a batch, and the batch without some of them
    pass_order.py        the order of a map-style dataset
    loaded_positions.py  attributes of datasets that keep a loaded position
    iterated.py          an iterable-style dataset with its iterator, and their state
    worker.py            the source that workers run for a loader
    streams.py           a `mpqueue.Dataset` that is a stream, in lanes
    awaited.py           a dataset with coroutines for torch's own fetcher
"""
