"""The parts of ``scripts/demo``.

From the ground up; a module imports only from its own line and the lines above it::

    options.py       the command line
    model.py         a small image classifier in NumPy
    report.py        progress, bottleneck and rates
    compare.py       the same loop fed in three ways
    train_numpy.py   the program: trains the classifier
    train_keras.py   the program with ``--keras``: trains a Keras 3 model through ``model.fit``
    sweep.py         a training of several over the same photographs, each with a learning rate of its own
    train_service.py   the program with ``--service``: three of them on one server, and with loaders of their own
    train_ray.py     the program with ``--ray``: trains on the nodes of a Ray cluster, of which one is killed
    train_torch.py   the program with ``--torch``: trains a torch model beside torch's own DataLoader
"""
