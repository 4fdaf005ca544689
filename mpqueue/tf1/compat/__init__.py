"""The deferred face of TensorFlow 1: graphs of nodes, which sessions run.

From the ground up::

    ops/          what operations compute, and what is known of their results beforehand
    graph/        nodes, graphs and sessions
    functions/    the functions and classes that make nodes
    program/      what scripts use besides nodes: files, flags, messages, settings
    train/        queue runners, producers, batches, monitored sessions
    surface.py    the table of TensorFlow's names, and where each is implemented
    names.py      modules made from such a table
"""
