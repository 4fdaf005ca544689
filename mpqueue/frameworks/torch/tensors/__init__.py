"""Tensors in slots: collation, ragged batches, pinned memory.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    tensors.py   tensors as arrays of a batch, and back
    ragged.py    `collate_fn="ragged"`: batches of tensors of different lengths and of sparse rows
    collation.py torch's collation, into the granted slot
    pinned.py    slots that a GPU reads directly
"""
