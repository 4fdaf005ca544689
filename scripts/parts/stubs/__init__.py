"""The parts of ``scripts/stubs``.

From the ground up; a module imports only from its own line and the lines above it::

    annotations.py   the text of an annotation, and the imports that it needs
    module.py        the stub of one public module
    command.py       the stubs of all of them, written to their places
"""
