"""Samples computed at once: threads, coroutines, the event loop.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    stuck.py           coroutines that do not continue
    helper_threads.py  threads that compute samples for a worker
    event_loop.py      the event loop of a process, in its own thread
    coroutines.py      coroutines in place of helper threads
    in_order.py        calls that threads or coroutines compute at once, with results in order
    async_iterators.py the elements of asynchronous generators, one by one
    async_sources.py   ``worker_init`` and ``aclose`` in the event loop; plain iterators
"""
