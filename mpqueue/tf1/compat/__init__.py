"""TensorFlow 1's graph-mode API: graphs of nodes that sessions run.

Packages, from the lowest layer to the highest::

    ops/          NumPy implementations of the operations, and inference of shapes and values before a run
    graph/        nodes, graphs and sessions
    functions/    the public functions and classes that create nodes
    program/      other names that scripts use: files, flags, logging, settings
    train/        queue runners, producers, batches, monitored sessions
    surface.py    the table of TensorFlow's names and of the modules that implement them
    names.py      public modules created from such a table
"""
