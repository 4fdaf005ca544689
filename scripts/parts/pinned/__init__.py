"""The parts of ``scripts/pinned``.

From the ground up; a module imports only from its own line and the lines above it::

    datasets.py   items whose bytes tell where they belong
    checks.py     what must hold on a machine with a GPU
    command.py    the program
"""
