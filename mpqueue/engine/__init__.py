"""The core: which batch is computed when, handed out when, and what happens in between.

From the ground up; a module imports only from its own line and the lines above it::

    backend_kinds.py   what sets the kinds of backends apart
    ray_options.py     those of Ray
    options.py         the options of all faces
    queue_address.py   where queues with shared names are found
    twisters.py        an accelerator: seeds both global generators in the time of one
    global_generators.py   seeds, keeps and puts back the generators that all code of a process shares
    seeds.py           random numbers of a batch, from (seed, epoch, index)
    contents.py        what an object holds, found within bounds
    generators.py      random generators inside of an object, and their states as plain data
    torch_numbers.py   seeds torch's generator, where torch is imported
    lanes.py           where the streams of a source can be begun again, and where they end
    schedule.py        the order of the work: tickets, places, what a sampler drew
    outcomes.py        the outcome of a ticket: a value or an error
    skips.py           what is left out because of an error
    ledger.py          the tickets that are dealt, answered, taken, and how far the consumer is; shared with the backend
    lifetime.py        the life of a pipeline: who stops it, and when
    epoch_end.py       the end of an epoch: the call of `on_epoch_end`
    backend.py         the protocol of those who run tickets
    pipeline.py        the core: steps that never wait, and `next`, which does
    async_batches.py   ``async for``: steps of a stream, and waits in the event loop that runs
    members.py         what a coordinator waits for, and how long one is ready to wait
"""
