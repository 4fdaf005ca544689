"""Frontends for the fit loops and data loaders of other libraries. Each is imported only on request.

From the ground up; a module imports only from its own line and the lines above it::

    enqueuers/   the enqueuers of Keras 2
    torch/       `DataLoader`, `install` and `prefetch`
    jax.py       arrays on devices
    keras/       the data side of `fit`, `evaluate` and `predict` of Keras 3
    tf.py        `tf.data` datasets
"""
