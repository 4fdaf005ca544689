"""Mixtures: which dataset provides each element, how weights change, and the parts of samples.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    weights.py       weights of a mix as arguments: a list, a dict by name, or a schedule
    arithmetic.py    arithmetic of a mix: which dataset provides the element at each index
    schedule.py      arithmetic of a mix with changing weights: its phases in an epoch
    picks.py         the inputs that provide the elements of a mix: in a lane, and in a block of indices
    parts.py         the parts of the mixtures of a dataset, and the part of a sample by its id
    mixtures.py      the mixture of a dataset: find it, change its weights, count the samples of its parts
"""
