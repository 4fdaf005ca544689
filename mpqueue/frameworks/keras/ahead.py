"""Tells whether Keras takes a batch ahead of use, as on JAX, which copies it to a device while a step runs.

Keras 3.15 does so for accelerators, earlier versions for CPUs, too; with a distribution only Keras 3.16 does. The
source of the batches cannot see it, so the names that Keras's iterator uses decide, not the version.
"""

from importlib import import_module

_WAYS_AHEAD = {"_prefetch_numpy_iterator", "_one_batch_ahead_iterator"}  # before Keras 3.14, and from it on

_DISTRIBUTED = "_get_distributed_iterator"  # before Keras 3.16: the way of a distribution, which takes none ahead


def takes_ahead() -> bool:
    """Return True if `fit`, as it would begin now, holds one batch more than its steps have used."""
    keras = import_module("keras")
    if keras.backend.backend() != "jax":
        return False
    iterator = getattr(import_module("keras.src.backend.jax.trainer"), "JAXEpochIterator", None)
    names = getattr(getattr(iterator, "_get_iterator", None), "__code__", takes_ahead.__code__).co_names
    is_apart = _DISTRIBUTED in names and keras.distribution.distribution() is not None
    if _WAYS_AHEAD.isdisjoint(names) or is_apart:
        return False
    return "default_backend" not in names or import_module("jax").default_backend() != "cpu"
