"""The core: which batch is computed when, handed out when, and what happens in between.

From the ground up; a module imports only from its own line and the lines above it::

    queue_address.py   where queues with shared names are found
    outcomes.py        the outcome of a ticket: a value or an error
    skips.py           what is left out because of an error
    ledger.py          the tickets that are dealt, answered, taken, and how far the consumer is; shared with the backend
    lifetime.py        the life of a pipeline: who stops it, and when
    epoch_end.py       the end of an epoch: the call of `on_epoch_end`
    backend.py         the protocol of those who run tickets
    pipeline.py        the core: steps that never wait, and `next`, which does
    async_batches.py   ``async for``: steps of a stream, and waits in the event loop that runs
    members.py         the end of a loader or an enqueuer as an event, and checked timeouts
"""
