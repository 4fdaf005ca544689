"""The parts of ``scripts/stubs``.

From the bottom layer up; a module imports only from its own line and the lines above it::

    annotations.py   the source of an annotation, and the imports that it needs
    command.py       writes the stubs of all public modules
"""
