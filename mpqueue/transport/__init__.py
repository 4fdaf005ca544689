"""Connections between processes: who listens and who may connect, what goes over, and the wait for it.

From the ground up; a module imports only from its own line and the lines above it::

    poller.py        waits for many descriptors: epoll, or poll
    records.py       the declaration of a record, and what is foreign
    framing.py       messages over streams that never block, and descriptors
    credentials.py   who is at the other end of a connection
    listener.py      an owner listens, and those who know where connect
"""
