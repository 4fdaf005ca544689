"""The parts of ``scripts/pinned``.

From the bottom layer up; a module imports only from its own line and the lines above it::

    datasets.py   items that are identified by their bytes
    checks.py     the requirements on a machine with a GPU
    command.py    the program
"""
