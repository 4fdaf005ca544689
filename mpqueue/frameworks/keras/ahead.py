"""Tells whether Keras takes a batch ahead of use, as on JAX, which copies it to a device while a step runs.

Keras 3.15 does so for accelerators, earlier versions for CPUs, too; none does where a distribution is set. Who asks for
batches cannot see it: so what Keras's iterator calls is read, not a number of a version.
"""

from importlib import import_module

_WAYS_AHEAD = {"_prefetch_numpy_iterator", "_one_batch_ahead_iterator"}  # before Keras 3.14, and from it on


def takes_ahead() -> bool:
    """Return True if `fit`, as it would begin now, holds one batch more than its steps have used."""
    keras = import_module("keras")
    if keras.backend.backend() != "jax" or keras.distribution.distribution() is not None:
        return False
    iterator = getattr(import_module("keras.src.backend.jax.trainer"), "JAXEpochIterator", None)
    names = getattr(getattr(iterator, "_get_iterator", None), "__code__", takes_ahead.__code__).co_names
    if _WAYS_AHEAD.isdisjoint(names):
        return False
    return "default_backend" not in names or import_module("jax").default_backend() != "cpu"
