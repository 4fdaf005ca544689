"""Connections between processes: listening, authentication, message formats, and waiting.

    connection   listener                 address     authentication   content
    ---          ---                      ---         ---              ---
    service      a server                 a path      user             one record per message
    cluster      the trainer              a TCP port  token (and TLS)  messages, and bytes into slots
    fork server  none: a pair of sockets  -           -                messages with descriptors
    worker       none: a pair of pipes    -           -                grants down; reports up

*Ownership.* A socket belongs to the process that created or accepted it. It is registered in
`mpqueue.system.descriptors.descriptors`, and is closed in forked children. Received descriptors belong to the receiver.
The owner of a path removes it. If the owner was killed, the next process that finds no listener there removes it.

*Refusals.* A peer without the right user or token is refused before any data is exchanged: `ForeignPeer`, see
`credentials`. Invalid data raises `ProtocolError`, see `records`, and ends the connection.

*Crashes.* The kernel ends the connection, and incomplete messages are dropped. The peer notices this at its next wait,
and first reads the data that was sent before. A process forked from the crashed one may keep the socket open; where
this matters, a pidfd is watched, too (`credentials.sentinel_of`).

Each module imports only from the modules above it::

    poller.py        waits for many descriptors
    records.py       declarations of records, and `ProtocolError`
    framing.py       messages over non-blocking streams, and descriptors
    credentials.py   authentication of peers
    listener.py      Unix sockets at a path
"""
