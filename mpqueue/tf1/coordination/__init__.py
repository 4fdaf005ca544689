"""The parts of a `Coordinator`: members, cancellation, and its proxies in other processes.

From the ground up; a module imports only from its own line and the lines above it::

    cancellation.py        scopes: a cancelled scope ends the calls that block in it
    stop_channel.py        the sockets between an owner and its proxies: states go out, reports come in
    coordinator_proxy.py   connects a coordinator's proxies in other processes to its owner
"""
