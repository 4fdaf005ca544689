"""Memory of the ring for the workers of a pool.

The modules do not import each other::

    memory_pressure.py   memory for workers that lack it
    slot_reuse.py        exchanges slots of unread grants for released ones
"""
