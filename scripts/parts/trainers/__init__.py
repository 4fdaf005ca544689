"""The parts of ``scripts/trainers``: common trainers, killed and resumed, and compared bit by bit.

From the bottom layer up; a module imports only from its own line and the lines above it::

    recording.py       the task of a program, its log, and its start
    torch_data.py      samples and a model of torch
    loop_torchrun.py loop_transformers.py loop_accelerate.py loop_lightning.py loop_flax.py loop_keras.py
                       the programs, as users write them
    verdict.py         the differences between a killed run and an uninterrupted one
    entries.py         the variants of the programs
    known.py           known differences of some package versions
    table.py           the stored results, and the tables in the guide
    killing.py         runs a program with and without kills
    command.py         the program
"""
