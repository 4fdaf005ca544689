"""TensorFlow 1's functions over NumPy arrays: types, shapes, and a table of operations; no graph, no session."""
