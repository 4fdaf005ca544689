"""The engine: computes batches ahead, orders them and delivers them to the consumer.

The modules, from the bottom up. A module imports only from its own line and the lines above it::

    outcomes.py       the outcome of a work item: a value or an error
    skips.py          samples and batches that are skipped because of an error
    progress/         the counted batches, and which of them the user has
    ledger.py         dealt, answered and taken work items; shared with the backend
    lifetime.py       the life cycle of a pipeline: start, stop, and stops inside a step
    epoch_end.py      the end of an epoch: the call of `on_epoch_end`
    backend.py        the protocol of a backend, which runs work items
    guard.py          the lock of a pipeline, and the meaning of an exception that leaves a call
    epochs.py         opens and ends epochs, and goes to other places in the order
    dealing.py        stops and continues the dealing of work items
    rare_outcomes.py  ends of lanes, skipped errors, errors in place of a batch
    pipeline.py       the core: non-blocking steps, and the blocking `next`
    async_batches.py  ``async for``: each `next` in a thread
    stopping.py       the end of a loader or an enqueuer as an event, and checked timeouts
"""
