"""What of ``tf.train`` feeds a model: queue runners, producers, batches, sessions that start the runners."""
