"""Bytes of local and remote files, by position.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    urls.py       remote files: the file systems of fsspec
    names.py      file names: patterns, braces, lists
    ranges.py     byte ranges of remote files, read concurrently, with retries
    positioned.py positional reads, and a file object over them
    opened.py     open files, read by position
    window.py     a file that a scan reads from header to header
"""
