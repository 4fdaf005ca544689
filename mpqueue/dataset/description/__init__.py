"""The description of a dataset: its stages, their arguments, and the ids of its samples.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    arguments.py     argument checks of the stages
    binding.py       methods that distinguish a call on the class from a call on a dataset
    depth.py         stack space for trees of many stages
    ids.py           ids of samples
    nodes.py         the stages of a dataset, as a tree of immutable descriptions
    fingerprint.py   a cache key of stages
"""
