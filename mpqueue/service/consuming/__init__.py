"""The consumer: its connection, its ring, its batches.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    link.py        the consumer's side of a connection
    mapped_ring.py the server's ring, mapped by a consumer
    attachment.py  the state of one connection of a consumer
    attaching.py   finds a server, exchanges handshakes and maps the ring
    counts.py      counters and timeline of a consumer
    consumer.py    `attach` and `Consumer`
"""
