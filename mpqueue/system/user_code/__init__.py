"""Objects, exceptions and modules of user code.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    keywords.py        errors for unknown keyword arguments, and their remedies
    extras.py          optional packages: whether they are installed, and their import
    imports.py         calls a function when a module is imported
    iterators.py       reads iterators of user code without calling their `__iter__` again
    exception_texts.py strings for exceptions of user code
    object_walk.py     searches the contents of an object within bounds
    shared_state.py    finds memory in an object that other programs can write to
    replacement.py     replaces attributes of other libraries while they are needed
"""
