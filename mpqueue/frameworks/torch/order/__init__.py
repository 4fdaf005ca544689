"""The order of a loader's data, its state, and questions about it.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    ranks.py          this rank, and its lanes of a stream
    accelerate.py     loaders of Accelerate: seeds, ranks, and batches that are skipped or read ahead
    balance.py        the batches of a loader with a balance
    order.py          the order of a map-style dataset: its description and fingerprint
    pass_draw.py      the batches that a pass has drawn for its workers
    beginning.py      the beginning of a pass, and the way back to it
    state.py          a loader's position in its data
    between_passes.py where the next pass of a loader begins
    draws.py          the draw of a pass from its sampler, which can begin again
    questions.py      the samples of any batch of a pass, and that batch again
"""
