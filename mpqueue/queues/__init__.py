"""TensorFlow 1 queues: one pure state machine, and storages for it."""
