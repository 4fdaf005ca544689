"""Queues of a server: those of one shared name are one queue for all programs that are connected to it.

From the ground up; a module imports only from its own line and the lines above it::

    connect.py   connects a program to the queues of a server
    desk.py      tells where a server's queues are
    server.py    a server of queues only
"""
