"""Batches of samples: which samples a batch has, which batches a rank has, and how samples become a batch.

From the ground up; a module imports only from its own line and the lines above it::

    leaves.py        the leaves of samples: numbers and arrays are stacked, all else is listed
    collate.py       samples become a batch, where it is to lie
    padding.py       the same of arrays of unlike lengths, padded to the longest
"""
