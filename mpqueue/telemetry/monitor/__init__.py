"""Reports of the loaders of a process to other programs of its user, such as `mpqueue top`.

    process                                        mpqueue top
    -------                                        -----------
    show(loader) --> socket in the folder          lists the folder
    one thread sleeps in poll   <---- connects ----
    statistics() of shown objects  ---- JSON --->  a table
    hide(loader) --> after the last one, the socket is removed

Without requests, the monitor only costs a descriptor and a sleeping thread. So there is one socket per process, and
only on request: servers have one, and loaders and enqueuers with ``monitor=True`` or ``MPQUEUE_MONITOR=1``.

The modules, from the bottom up. A module imports only from its own line and the lines above it::

    places.py          the folder of the sockets
    window.py          a socket that answers requests
    registry.py        the shown objects of this process
    asking.py          requests to all processes at once, with a deadline
"""
