"""Sources: what an object is, and its batches.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    batch_types.py the type of a batch, from the type of the source
    columns.py     reads a column of a source
    sequence.py    `Sequence`, the base class of sources
    sources.py     the base of the source classes, and sources with an index
    stream_sources.py streams
    recognise.py   how an object is classified
"""
