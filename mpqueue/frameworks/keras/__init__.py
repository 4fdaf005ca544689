"""Keras 3: the data side of `fit`, `evaluate` and `predict` on mpqueue's workers.

From the ground up; a module imports only from its own line and the lines above it::

    seedings.py        notices that the program seeds Keras
    idle.py            worker pools that stay alive between uses, for a limited time
    passes.py          what a data adapter of Keras 3 asks for: passes
    backups.py         tells that Keras restores a backup without a state of the loader
    loader_passes.py   passes over a loader
    resets.py          tells a dataset that Keras begins its data anew
    ahead.py           tells whether Keras takes a batch ahead of use
    accelerate.py      `accelerate`
"""
