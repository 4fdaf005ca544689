"""The server: connections, seats, the journal and the thread.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    connections.py the server's side of connections
    journal.py     the record of taken batches, for restarts
    checkpoints.py journaled stream positions with lane snapshots
    tracing.py     consumers in the server's timeline
    admission.py   assigns seats to consumers
    deliveries.py  carries out the decisions of the core
    consumers.py   arrivals, requests, departures and exits of consumers
    loop.py        the server's thread: I/O around the core
    reports.py     statistics of a server
    server.py      `Server`
"""
