"""The core: which batch is computed when, handed out when, and what happens in between.

From the ground up; a module imports only from its own line and the lines above it::

    queue_address.py  where queues with shared names are found
    outcomes.py       the outcome of a work item: a value or an error
    skips.py          what is left out because of an error
    ledger.py         dispatched, answered and taken work items, and the consumer's progress; shared with the backend
    lifetime.py       the life of a pipeline: who stops it, and when
    epoch_end.py      the end of an epoch: the call of `on_epoch_end`
    backend.py        the protocol of those who run work items
    pipeline.py       the core: steps that never wait, and `next`, which does
    async_batches.py  ``async for``: steps of a stream, and waits in the event loop that runs
    members.py        the end of a loader or an enqueuer as an event, and checked timeouts
"""
