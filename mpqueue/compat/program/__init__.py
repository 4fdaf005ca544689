"""What scripts use of TensorFlow besides nodes: files, flags, messages, settings."""
