"""A process tells other programs of its user what runs in it: `mpqueue top` asks.

    process                                        mpqueue top
    -------                                        -----------
    show(loader) --> socket in the folder          lists the folder
    one thread sleeps in poll   <---- connects ----
    statistics() of what is shown  ---- JSON --->  a table
    hide(loader) --> the last one: socket gone

It costs a descriptor and a thread that sleeps, and nothing else, while nobody asks. So there is one socket for a
process, whatever runs in it, and only where somebody wants it: servers have one, loaders and enqueuers with
``monitor=True`` or ``MPQUEUE_MONITOR=1``. From the ground up; a module imports only from its own line and the lines
above it::

    places.py          the folder of the sockets, and those in it
    window.py          a socket on which a process answers
    registry.py        what is shown of this process
    asking.py          asks all processes at once, and waits for none that hangs
"""
