"""The engine: computes batches ahead, orders them and delivers them to the consumer.

The modules, from the bottom up. A module imports only from its own line and the lines above it::

    outcomes.py       the outcome of a work item: a value or an error
    skips.py          samples and batches that are skipped because of an error
    returned_parts.py the samples of each part of a mixture in the delivered batches
    deliveries.py     what a frontend has taken, and its user has not got
    ledger.py         dealt, answered and taken work items, and the consumer's progress; shared with the backend
    lifetime.py       the life cycle of a pipeline: start, stop, and stops inside a step
    epoch_end.py      the end of an epoch: the call of `on_epoch_end`
    backend.py        the protocol of a backend, which runs work items
    pipeline.py       the core: non-blocking steps, and the blocking `next`
    async_batches.py  ``async for``: each `next` in a thread
    stopping.py       the end of a loader or an enqueuer as an event, and checked timeouts
"""
