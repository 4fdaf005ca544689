"""Parts of a `Coordinator`: members, cancellation, and proxies in other processes.

From the bottom layer up. A module imports only modules of the same line and of lines above::

    members.py             threads and other members of a coordinator, and validation of timeouts
    door.py                authenticated sockets of queues and coordinators for other processes
    cancellation.py        scopes: cancelling a scope ends the calls that are blocked in it
    stop_channel.py        sockets between an owner and its proxies, for states and reports
    coordinator_proxy.py   connects a coordinator's proxies in other processes to its owner
"""
