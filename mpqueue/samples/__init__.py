"""Batches of samples: how the samples of a batch are combined.

The modules, from the bottom up. A module imports only from its own line and the lines above it::

    leaves.py        the leaves of samples: numbers and arrays are stacked, other objects are put into lists
    ragged.py        arrays of different lengths, joined without padding; `Ragged`
    sparse.py        scipy's sparse rows, stacked to CSR
    collate.py       combines samples to a batch, in the slot of the batch
    padding.py       the same for arrays of different lengths, padded to the longest
"""
