"""`Loader`, and what it stands on: sources, orders, the stream of batches.

From the ground up; a module imports only from its own line and the lines above it::

    forms.py              the forms of a source that enqueuers take
    progress.py           the bar of an epoch
    engine.py             what all faces stand on: one stream of batches, its workers, and their end
    idle.py               pools that live on between uses, for a while
    lightning_epochs.py   whether the trainer of Lightning saves at an epoch's end
    loop_position.py      how far the loops of a loader are
    epoch_iterator.py     the iterator of one epoch
    loader.py             `Loader`
"""
