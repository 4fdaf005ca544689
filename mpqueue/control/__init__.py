"""The control plane: which batch is computed when, handed out when, and what happens in between.

The modules, from the ground up; each imports only from above::

    queue_address.py   where the queues of this process, or of its trainer, are
    seeds.py           random numbers of a batch, from (seed, epoch, index)
    schedule.py        the order of the work: tickets
    progress.py        how far the consumer is
    outcomes.py        what became of a ticket: a value or an error
    ledger.py          the tickets that are dealt, answered, taken; shared with the backend
    recovery.py        what an interrupt has left to be mended
    epoch_end.py       when a source's `on_epoch_end` is called
    backend.py         the protocol of those who run tickets
    pipeline.py        the consumer's side
"""
