"""The parts of ``scripts/demo``.

From the bottom layer up; a module imports only from its own line and the lines above it::

    options.py       the command line
    model.py         a small image classifier in NumPy
    compare.py       the same loop with three kinds of loading, and a table of rates
    training.py      the photographs of a program, and the trainings of models
    train_numpy.py   the program: trains the classifier
    train_keras.py   the program with ``--keras``: trains a Keras 3 model through ``model.fit``
    train_service.py   the program with ``--service``: three trainings on one server, and with separate loaders
    train_ray.py     the program with ``--ray``: trains on a Ray cluster, and kills one of its nodes
"""
