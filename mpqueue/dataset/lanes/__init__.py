"""The stages of a lane: their bases, the roots that begin a lane, and the lane itself.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    stage_work.py    the time of a lane stage, and its search for elements
    user_calls.py    how a lane stage calls user code: random numbers, retry markers, errors
    gates.py         the samples that are excluded in the middle of an epoch of a lane
    tokens.py        the tokens of elements held by stages, in the format of snapshots
    state_codes.py   the state of a scan as integers
    stages.py        lane stages: blocks of elements with tokens, snapshots of positions
    ahead.py         the entry of a lane: reads ahead, and drops excluded samples
    counting.py      the base of lane stages that count elements
    repeating.py     repeated passes over the input of a stage
    joining.py       the base of lane stages with several inputs
    applied.py       the bases of lane stages that call a user function for each element
    merging.py       the base of lane stages that make an element of several
    threaded.py      map and filter with threads or coroutines
    roots.py         the input of a lane: indices of an indexed dataset, or a source that is a stream
    lane.py          a lane: iterates over the elements of its last stage
"""
