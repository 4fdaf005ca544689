"""Keras 3: the data side of `fit`, `evaluate` and `predict` on mpqueue's workers.

From the ground up; a module imports only from its own line and the lines above it::

    seedings.py        notices that the program seeds Keras
    idle.py            worker pools that are kept between uses, for a limited time
    passes.py          the passes that a data adapter of Keras 3 requests
    backups.py         warns if Keras restores a backup without a state of the loader
    loader_passes.py   passes over a loader
    resets.py          notifies a dataset that Keras resets its data
    ahead.py           checks whether Keras takes a batch ahead of use
    accelerate.py      `accelerate`
"""
