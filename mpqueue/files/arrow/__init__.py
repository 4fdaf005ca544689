"""Arrow and Parquet.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    messages.py messages of Arrow's formats: their positions and buffers
    slices.py   some rows of a record batch, built from their own bytes
    values.py   values of many rows of record batches, read together
    arrow.py    `Arrow`
    parquet.py  `Parquet`
"""
