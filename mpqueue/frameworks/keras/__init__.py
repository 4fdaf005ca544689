"""Keras 3: the data side of `fit`, `evaluate` and `predict` on mpqueue's workers.

From the ground up; a module imports only from its own line and the lines above it::

    passes.py          what a data adapter of Keras 3 asks for: passes
    loader_passes.py   the same of a loader
    resets.py          tells a dataset that Keras begins its data anew
    accelerate.py      `accelerate`
"""
