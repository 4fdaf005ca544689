"""JAX: the batches of a loader as device arrays; the code is in `mpqueue.frameworks.jax`."""

from mpqueue.frameworks.jax import device_iterator, to_padded

__all__ = ["device_iterator", "to_padded"]
