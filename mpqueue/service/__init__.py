"""Servers that compute batches once for consumers in other processes of the same machine.

A server uses the engine of a `Loader` (ring, workers, order) and delivers the batches to other processes. Each module
imports only from the modules above it::

    protocol/  the messages between a server and its consumers
    routing/   which consumer gets which batch; pure
    stream/    the engine as a server drives it
    serving/   the server: connections, seats, the journal and the thread
    consuming/ the consumer: its connection, its ring, its batches
"""
