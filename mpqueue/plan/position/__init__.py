"""Where a run is: cursors, ranks, lanes, samplers.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    lanes.py               where each lane can be resumed, and where it ends
    cursors.py             work items, positions, and the cursor that deals them by index
    drawn_cursor.py        the cursor of an order that is drawn from a sampler
    stream_cursor.py       the cursor of a stream
    ranks.py               the batches of one rank among several
    exclusions.py          the samples that a history excludes, on all ranks alike
    sampler_fingerprint.py checksums of the indices that a sampler returned
    sampler_state.py       the random state that a sampler's order depends on
    draws.py               batches drawn from a sampler
"""
