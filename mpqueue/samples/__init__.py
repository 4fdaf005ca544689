"""Batches of samples: which samples a batch has, which batches a rank has, and how samples become a batch.

From the ground up; a module imports only from its own line and the lines above it::

    permutation.py   the order of an epoch, place by place: a billion samples cost no memory
    shards.py        the batches of one rank among several
    plan.py          facts about batches of samples that workers get once
    marks.py         marks of what a sampler gave: equal batches, equal marks
    randomness.py    what the order of a sampler depends on, recorded and put back
    drawing.py       batches from a sampler, drawn lazily
    leaves.py        the leaves of samples: numbers and arrays are stacked, all else is listed
    collate.py       samples become a batch, where it is to lie
    padding.py       the same of arrays of unlike lengths, padded to the longest
"""
