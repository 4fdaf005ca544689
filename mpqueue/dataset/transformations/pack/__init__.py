"""The stage `pack`: sequences become rows of one length.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    bin_packing.py   assignment of sequences to rows: best fit, or continuous text
    sequences.py     samples that are sequences, and rows built of their pieces
    pack.py          the stage
"""
