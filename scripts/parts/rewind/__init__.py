"""The parts of ``scripts/rewind``: a training that damaged samples break, and its repair.

From the bottom layer up; a module imports only from its own line and the lines above it::

    patches.py       patches of real photographs as a source of samples, some of them damaged
    classifier.py    a small network in NumPy
    training.py      trains it, and goes back to a checkpoint when the loss is not a number
    command.py       the clean run and the repaired run, and what is printed and stored
"""
