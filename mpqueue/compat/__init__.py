"""The deferred face of TensorFlow 1."""
