"""Servers that compute batches once for consumers in other processes of the same machine.

A server uses the engine of a `Loader` (ring, workers, order) and delivers the batches to other processes. Each module
imports only from the modules above it::

    records.py           records on the socket, and the protocol
    handshake.py         the first message of each side
    specs.py             batch structures as plain data
    server_directory.py  the folder, name and socket of a server
    routing.py           batches, the seats of a group, and one routing class per mode
    stream.py            the engine as a server drives it: batch handles
    lane_stream.py       the same for streams, by lanes
    making.py            creates the stream of a source
    refusals.py          exceptions for refused consumers, and redirected attributes
    modes.py             one class per server mode
    rules.py             checked options of a server
    core.py              decides which consumer is offered which batch; pure, simulated in the tests
    connections.py       the server's side of connections
    journal.py           the record of taken batches, for restarts
    checkpoints.py       journaled stream positions with lane snapshots
    tracing.py           consumers in the server's timeline
    admission.py         assigns seats to consumers
    loop.py              the server's thread: I/O around the core
    reports.py           statistics of a server
    link.py              the consumer's side of a connection
    mapped_ring.py       the server's ring, mapped by a consumer
    attachment.py        the state of one connection of a consumer
    attaching.py         finds a server, exchanges handshakes and maps the ring
    counts.py            counters and timeline of a consumer
    consumer.py          `attach` and `Consumer`
    server.py            `Server`
"""
