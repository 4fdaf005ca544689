"""Connections between processes: who listens and who may connect, what goes over, and the wait for it.

    who                owner, who listens             at              proof             what goes over
    ---                ------------------             --              -----             --------------
    monitor            a process that shows itself    a path          user              JSON, to the end
    service            a server                       a path          user              records, each a message
    cluster            the trainer                    a TCP port      token (and TLS)   messages, and bytes into slots
    fork server            nobody: a pair of sockets      -               -                 messages with descriptors
    worker             nobody: a pair of pipes        -               -                 grants down; reports up

*Who owns what.* A socket belongs to the process that made or accepted it, is noted in `mpqueue.system.descriptors`, and
is closed in a forked child. Descriptors that come are the receiver's. A path is its owner's to remove; one that a
killed owner has left is removed by whoever finds nobody there.

*Who is refused.* A stranger, before a word is said or believed: `ForeignPeer`, see `credentials`. What no process of
this version sends: `ProtocolError`, see `records`; the connection ends with it.

*What happens on death.* The kernel ends the connection, and a message that is not there wholly is none. Whoever still
has the other end sees that at its next wait, and reads first what was sent before. A process that was forked from the
dead one may keep a socket open: where this matters there is a pidfd as well (`credentials.sentinel_of`).

From the ground up; a module imports only from its own line and the lines above it::

    poller.py        waits for many descriptors: epoll, or poll
    records.py       the declaration of a record, and what is foreign
    framing.py       messages over streams that never block, and descriptors
    credentials.py   who is at the other end of a connection
    listener.py      sockets at a path: who listens there, and who connects
"""
