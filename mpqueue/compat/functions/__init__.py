"""TensorFlow 1's functions on nodes, by family. What they share is told in `direct`."""
