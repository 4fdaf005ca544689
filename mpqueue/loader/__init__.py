"""`Loader`, and what it stands on: sources, orders, the stream of batches.

From the ground up; a module imports only from its own line and the lines above it::

    sequence.py           `Sequence`, the base class of sources
    sources.py            what is asked of a source of batches
    datasets.py           the source of a `mpqueue.Dataset`, and its last stages as options
    forms.py              the forms of a source that enqueuers take
    lazy_orders.py        orders that Keras's iterators would draw in their first item
    progress.py           the bar of an epoch
    engine.py             what all faces stand on: one stream of batches, its workers, and their end
    idle.py               pools that live on between uses, for a while
    lightning_epochs.py   whether the trainer of Lightning saves at an epoch's end
    lane_shares.py        which lanes a stream has, and which are this rank's
    compact.py            snapshots of lanes as a short string
    lane_states.py        states of streams, of one rank or of all
    checksums.py          checksums of saved states, the same in any file format
    saved_states.py       the keys of a saved state, and the checks of one that is loaded
    loop_position.py      how far the loops of a loader are
    epoch_iterator.py     the iterator of one epoch
    orders.py             the order of the batches of a loader
    loader.py             `Loader`
"""
