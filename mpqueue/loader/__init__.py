"""`Loader`, and the parts that run a plan for all frontends.

The modules, from the bottom up. A module imports only from its own line and the lines above it::

    launch.py           the ledger, the pipeline and the backend of a stream
    progress.py         the progress bar of an epoch
    session.py          one stream of batches and its workers
    run.py              a consumer's progress in a plan: its position, its counts and its state
    epoch_iterator.py   the iterator of one pass
    passes.py           begins and ends the passes of a run
    replay.py           a batch that is computed again by the calling thread
    questions.py        the samples of any batch of a source with an index
    stream_questions.py the samples of the last batch of a stream
    loader.py           `Loader`
    undelivered.py      batches that a frontend has taken, but its user has not received
    ahead.py            batches that are moved to a device ahead of use
"""
