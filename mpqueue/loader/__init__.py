"""`Loader`, and the parts that run a plan for all frontends.

From the ground up; a module imports only from its own line and the lines above it::

    progress.py         the bar of an epoch
    engine.py           one stream of batches, its workers, and their end
    loop_position.py    how far the loops of a loader are
    epoch_iterator.py   the iterator of one epoch
    loader.py           `Loader`
"""
