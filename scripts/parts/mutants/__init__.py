"""The parts of ``scripts/mutants``.

From the bottom layer up; a module imports only from its own line and the lines above it::

    mutations.py   the small changes to a module, as edits of its source
    targets.py     the tests of each module
    reached.py     the tests that run each function
    trying.py      one mutant at a time: a fork of a warm interpreter runs the tests in a copy of the tree
    alone.py       runs the program in its own PID namespace
    command.py     the command line

A mutant has to be cheap. mutmut and cosmic-ray start an interpreter per mutant, which imports NumPy, pytest and
hypothesis (1.5 s); a fork has imported them already (0.2 s). This program also disables the shrinking of hypothesis,
which would take minutes for each killed mutant, and it removes statements, which mutmut and cosmic-ray do not.
"""
