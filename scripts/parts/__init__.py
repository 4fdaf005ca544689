"""The parts of the programs in ``scripts/``: one folder for each program, and modules that several programs use.

From the bottom layer up; a module imports only from its own line and the lines above it::

    machine.py       the folders of this checkout, files of its cache, and the available CPUs
    processes.py     this process with its descendants, children that must not outlive it, and waits
    own_venv.py      restarts a program with the Python of ``.venv`` when packages are missing
    ray_cluster.py   several raylets on this machine
    drawn.py         tables of pages that are drawn from stored data
    resumed.py       logs of programs that are killed and resumed, and what they lose or repeat
    checks.py        the checks of ``scripts/test``, several at a time
    photographs/     small JPEG files of real photographs, and batches of them
    benchmark/       the parts of ``scripts/benchmark.py``
    demo/            the parts of ``scripts/demo``
    gauntlet/        the parts of ``scripts/gauntlet``
    pictures/        the parts of ``scripts/pictures``
    soak/            the parts of ``scripts/soak``
    stubs/           the parts of ``scripts/stubs``
    trainers/        the parts of ``scripts/trainers``

``environment.sh`` creates ``.venv``; the shell scripts and `own_venv` source it.
"""
