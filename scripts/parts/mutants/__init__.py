"""The parts of ``scripts/mutants``.

From the ground up; a module imports only from its own line and the lines above it::

    mutations.py   the small changes that are made to a module, as edits of its text
    survivors.py   reads `survivors.md`: the known survivors, each with the reason why it changes nothing
    targets.py     which tests are to see a change of which module
    trying.py      one mutant at a time: a fork of a warm interpreter runs the tests in a copy of the tree
    alone.py       the program again in a namespace of its own, which ends with the one outside
    command.py     the command line

This is a program of its own because a mutant has to be cheap. mutmut and cosmic-ray start an interpreter per mutant,
which then imports NumPy, pytest and hypothesis (1.5 s); a fork has imported them already (0.2 s). The program also
switches off the shrinking of hypothesis, which would spend minutes on each mutant that dies, and it removes statements,
which those two do not.
"""
