"""Datasets as they run: in workers, in the plan of a loader, and in the calling process.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    timing.py           time measurements of the stages of an indexed dataset
    source.py           an indexed dataset as workers run it
    build.py            construction of lane stages from the description of a stream
    lane_ids.py         lanes that return the ids of the samples of each element
    as_source.py        the source of a dataset in a plan; conversion between stages and options
    local_iteration.py  iteration over a dataset in the calling process
"""
