"""The names of tf.train, eager."""
