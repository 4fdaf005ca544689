"""Stored elements of datasets and results of functions, shared by the processes of a host.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    records.py       serialization of values
    record_files.py  numbered values in files that several processes read and write concurrently
    counts.py        counters of a cache over all processes
    folders.py       segments of the caches in a folder, and their common bound
    caches.py        location of the cache files: a folder, or memory
    cached.py        the decorator `cached` of functions and methods
"""
