"""The core: which batch is computed when, handed out when, and what happens in between.

From the ground up; a module imports only from its own line and the lines above it::

    backend_kinds.py   what sets the kinds of backends apart
    ray_options.py     those of Ray
    options.py         the options of all faces
    queue_address.py   where queues with shared names are found
    twisters.py        an accelerator: seeds both global generators in the time of one
    seeds.py           random numbers of a batch, from (seed, epoch, index)
    contents.py        what an object holds, found within bounds
    generators.py      random generators inside of an object, and their states as plain data
    torch_numbers.py   seeds torch's generator, where torch is imported
    schedule.py        the order of the work: tickets
    progress.py        the progress of the consumer
    outcomes.py        the outcome of a ticket: a value or an error
    skips.py           what is left out because of an error
    ledger.py          the tickets that are dealt, answered, taken; shared with the backend
    recovery.py        the recovery from interrupts
    lifetime.py        the life of a pipeline: who stops it, and when
    epoch_end.py       the end of an epoch: the call of `on_epoch_end`
    backend.py         the protocol of those who run tickets
    pipeline.py        the consumer's side
    polled.py          the same for a server's loop: it never waits, and computes batches again
    async_batches.py   ``async for``: steps of a stream, and waits in the event loop that runs
    members.py         what a coordinator waits for
"""
