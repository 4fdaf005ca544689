"""Base classes of the sources over files: rows, groups, compressed files.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    location.py        `Location`: the position of a sample in a file
    unpacked.py        compressed files, decompressed once into a cache file
    source.py          the base class of all sources over files
    unpacked_source.py sources over files that may be compressed
    columns.py         selection of columns
    rows.py            rows of pyarrow tables as samples
    row_blocks.py      samples of a group or of blocks, by position
    groups.py          samples in groups: row groups, record batches, shards
"""
