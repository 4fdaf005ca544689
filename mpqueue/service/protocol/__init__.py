"""The messages between a server and its consumers.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    records.py          records on the socket, and the protocol
    handshake.py        the first message of each side
    specs.py            batch structures as plain data
    server_directory.py the folder, name and socket of a server
    refusals.py         exceptions for rejected consumers, and redirected attributes
"""
