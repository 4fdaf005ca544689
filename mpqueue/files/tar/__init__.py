"""Tar archives.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    headers.py the members of a tar archive
    tar.py     `Tar`
    stream.py  `TarStream`: archives that are read sequentially
"""
