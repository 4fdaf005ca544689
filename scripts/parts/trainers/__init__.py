"""The parts of ``scripts/trainers``: trainers that people have, killed and resumed, and compared to the bit.

From the ground up; a module imports only from its own line and the lines above it::

    recording.py       the task of a program, and the lines that it writes down
    torch_data.py      samples and a model of torch
    loop_torchrun.py loop_transformers.py loop_accelerate.py loop_lightning.py loop_flax.py loop_keras.py
                       the programs, as users write them
    verdict.py         what differs between a run that was killed and one that was not
    entries.py         the programs in the forms that are run
    known.py           differences that versions of their packages bring
    table.py           what is kept of the runs, and drawn in the guide
    killing.py         runs a program, whole and with kills
    command.py         the program
"""
