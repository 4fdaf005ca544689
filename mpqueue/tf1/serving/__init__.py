"""Queues of a server: queues with the same shared name are one queue for all connected programs.

From the bottom layer up. A module imports only modules of the same line and of lines above::

    connect.py   connects a program to the queues of a server
    desk.py      sends the address of a server's queues to clients
    server.py    a server for queues only
"""
