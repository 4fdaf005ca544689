"""The parts of a `Coordinator`: members, cancellation, and its proxies in other processes.

From the ground up; a module imports only from its own line and the lines above it::

    members.py             what a coordinator waits for, and checked timeouts
    door.py                the sockets at which queues and coordinators are reached from other processes
    cancellation.py        scopes: a cancelled scope ends the calls that block in it
    stop_channel.py        the sockets between an owner and its proxies: states go out, reports come in
    coordinator_proxy.py   connects a coordinator's proxies in other processes to its owner
"""
