"""TensorFlow: a `tf.data.Dataset` of the batches of a loader; the code is in `mpqueue.frameworks.tf`."""

from mpqueue.frameworks.tf import dataset, to_ragged

__all__ = ["dataset", "to_ragged"]
