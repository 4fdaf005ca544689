"""The index of a file: scanned once, stored, mapped by all processes.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    kept.py       the index folder
    index_file.py the file of an index: arrays, written atomically
    scanning.py   concurrent scans of several files
    index.py      the positions of records: scanned once, stored in a file, mapped by all processes
"""
