"""Random generators of libraries and of user code.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    shared_generator_check.py warns if the source draws from generators that threads share
    tensorflow_rng.py         seeding of tf.random, if TensorFlow is imported
    user_generators.py        random generators that a source keeps, seeded for each batch
    shuffle_detection.py      detects an order that the first item of a source has drawn
"""
