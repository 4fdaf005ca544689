"""`Dataset`: descriptions of samples, and what computes them: elements by their place, or streams in lanes.

From the ground up; a module imports only from its own line and the lines above it::

    lookalikes.py   the marks of a source, and words for what only looks like one
    arguments.py    checks of the arguments of stages
    nodes.py        the stages of a dataset, as a tree of immutable descriptions
    stages.py       what a stage of a lane is: blocks of elements with their tokens, snapshots of positions
    dataset.py      `Dataset`
"""
