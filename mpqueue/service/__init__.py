"""One preparation for many trainers: a server computes batches, and consumers in other processes get views of them.

The server is the engine with another consumer: its ring, its workers and its order are a `Loader`'s. From the ground
up; a module imports only from its own line and the lines above it::

    records.py        what goes over the socket
    greeting.py       what goes over it before: who attaches to what, or why not
    specs.py          how batches are read, as plain data
    home.py           where a server lives: its folder, its name, its socket, and who is at the other end
    lots.py           a batch in its slot, as the server deals it out
    plan.py           the options of a stream, checked
    stream.py         the engine as a server drives it
    seats.py          the places of a group, and the batches of each
    rules.py          how a server deals, and what the core has others do
    dealing.py        which consumer gets which batch, by mode
    group.py          the consumers, what they look at, what is computed again
    core.py           decides; pure, and simulated in the tests
    peer.py           the server's end of one connection
    handlers.py       descriptors, and what is called when one is ready
    journal.py        what was taken, for a server that comes back
    tracing.py        the rows of consumers in a server's trace
    deliveries.py     does what the core decides
    reception.py      accepts connections, and hears their greeting
    admission.py      gives seats
    loop.py           the server's thread
    reports.py        statistics of a server
    restarting.py     which streams a server can go on with that comes back
    link.py           the consumer's end of one connection
    mapped_ring.py    the server's ring, as a consumer reads it
    attachment.py     what one connection has brought, and what the server is to be told
    terms.py          what a consumer asks for
    consumer_row.py   the timeline of a consumer
    counts.py         what a consumer has counted
    attaching.py      finds a server, greets it, maps its ring
    consumer.py       `Consumer`, the batches of a server
    attach.py         `attach`, which makes one
    purposes.py       who answers greetings that are not about batches
    server.py         `Server`
"""

from mpqueue.system.platform_support import require_linux

require_linux(
    "mpqueue's service",
    "sockets that keep messages apart, memory files, pidfds",
    "use a mpqueue.Loader in each trainer",
)
