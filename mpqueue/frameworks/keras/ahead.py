"""Check whether Keras takes a batch ahead of use, as on JAX, where it copies one to a device during a step.

Keras 3.15 does so for accelerators, earlier versions also for CPUs; with a distribution, only Keras 3.16 does. The
source of the batches cannot observe it, so the names that Keras's iterator uses decide, not the version.
"""

from importlib import import_module

_PREFETCHERS = {"_prefetch_numpy_iterator", "_one_batch_ahead_iterator"}  # before Keras 3.14, and from 3.14 on

_DISTRIBUTED = "_get_distributed_iterator"  # before Keras 3.16: used with a distribution, takes no batch ahead


def takes_ahead() -> bool:
    """Return True if `fit`, if it began now, would hold one batch more than its steps have used."""
    keras = import_module("keras")
    if keras.backend.backend() != "jax":
        return False
    iterator = getattr(import_module("keras.src.backend.jax.trainer"), "JAXEpochIterator", None)
    names = getattr(getattr(iterator, "_get_iterator", None), "__code__", takes_ahead.__code__).co_names
    is_distributed = _DISTRIBUTED in names and keras.distribution.distribution() is not None
    if _PREFETCHERS.isdisjoint(names) or is_distributed:
        return False
    return "default_backend" not in names or import_module("jax").default_backend() != "cpu"
