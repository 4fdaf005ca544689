"""`Dataset` and the computation of its elements, by index for indexed datasets and in lanes for streams.

The folders are listed bottom up. A module imports only modules on the same line and on the lines above::

    description/          the stages of a dataset as immutable descriptions, their arguments, and ids of samples
    mix/                  arithmetic of mixtures: weights, schedules, parts
    caching/              stored elements and results, shared by the processes of a host
    indexed/              readers: elements of indexed datasets, computed by index
    lanes/                bases of the stages of a lane, its roots, and the end of the lane
    transformations/      a module for each method of `Dataset`: its description, its reader and its stage of a lane
    running/              a dataset as workers run it, as a plan uses it, and in the calling process
    source_nodes.py       the stage of a user's source
    stage_requirements.py requirements of a stage for the stages before it
    elsewhere.py          methods of other libraries that `Dataset` does not have
    dataset.py            `Dataset`
"""
