"""Elements of indexed datasets, computed by index.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    applying.py      calls of a user function for a block of values
    readers.py       the readers of sources, and the bases of the readers of stages
    reordering.py    the base of readers of elements at other indices of their input
    merged.py        the base of readers that make an element of several elements of their input
    aside.py         computation outside of a loader, with the caller's random states restored
    finding.py       the sample with an id
"""
