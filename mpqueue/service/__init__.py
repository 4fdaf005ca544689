"""One preparation for many trainers: a server computes batches, and consumers in other processes get views of them.

The server is the engine with another consumer: its ring, its workers and its order are a `Loader`'s. From the ground
up; a module imports only from its own line and the lines above it::

    records.py           what goes over the socket
    handshake.py         what goes over it before: who attaches to what, or why not
    specs.py             how batches are read, as plain data
    server_directory.py  where a server lives: its folder, its name, its socket, and who is at the other end
    plan.py              the options of a stream, checked
    stream.py            the engine as a server drives it: batches in their slots
    refusals.py          the errors with which a server refuses a consumer
    routing.py           the seats of a group, and one class for each way to choose the seat of a batch
    modes.py             the modes of a server, one class each, and everything that differs between them
    rules.py             the rules of a server: its mode and its other options, checked
    core.py              decides: who is offered what, who holds which slot; pure, and simulated in the tests
    connections.py       the server's ends of its connections
    journal.py           what was taken, for a server that comes back
    replaying.py         batches of a stream in lanes, computed again for who comes late
    checkpoints.py       places from which a stream in lanes goes on
    tracing.py           the rows of consumers in a server's trace
    admission.py         gives seats
    loop.py              the server's thread: has the core decide, and does what it decides
    reports.py           statistics of a server
    link.py              the consumer's end of one connection
    mapped_ring.py       the server's ring, as a consumer reads it
    attachment.py        what one connection has brought, and what the server is to be told
    attaching.py         a consumer's terms; it finds a server, greets it, maps its ring
    counts.py            what a consumer has counted, and its timeline
    consumer.py          `attach`, and `Consumer`, the batches of a server
    server.py            `Server`
"""

from mpqueue.system.platform_support import require_linux

require_linux(
    "mpqueue's service",
    "sockets that keep messages apart, memory files, pidfds",
    "use a mpqueue.Loader in each trainer",
)
