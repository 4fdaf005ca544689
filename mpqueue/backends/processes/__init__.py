"""The pool of worker processes.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    handle.py            the trainer's handle of one worker: its state, pipes and granted work
    lane_owners.py       which worker runs which lane of a stream
    roster.py            all workers of a pool: start, kill, end
    source_sync.py       which worker has which version of the source
    pool.py              the state that the parts of a pool share; starts with the list of parts
    incidents.py         warnings about starts, exits, crashes and the ring
    ring_memory/         memory for workers that lack it, and slots that are used again
    hang.py              batch timeouts, and workers that hang
    notices.py           reports of workers that are not outcomes
    dispatcher.py        the hot path: grants and reports
    lane_dispatcher.py   grants the elements of a stream to the owners of their lanes
    crash_attribution.py which work item a crash is counted against
    supervision.py       replaces crashed workers
    autosize.py          chooses the number of workers
    process.py           the backend of worker processes
"""
