"""TensorFlow 1's functions on nodes, by topic.

Modules, from the lowest layer to the highest::

    declare.py          declares functions and classes with TensorFlow's signatures
    kernels.py          kernels for functions of values, with or without per-session state
    direct.py           functions of single operations, generated from their declarations
    keys.py             names of collections
    placeholders.py     nodes whose values are fed
    py_func.py          Python functions as nodes
    parsing.py          CSV records, Examples and SequenceExamples
    math.py             arithmetic, comparisons and elementwise functions
    array.py            shapes, reshaping, joining and splitting of arrays
    reduce.py           reductions along axes, matrix products
    sparse.py           sparse tensors
    array_fill.py       arrays created from a shape
    text.py             string functions: join, split, substrings, parsing
    control.py          groups, dependencies, printing, assertions
    checks.py           operations that check values
    cond.py             conditional execution of one of two parts of a graph
    select.py           gather, masks, conditions, indexing
    operators.py        Python's operators
    random.py           random values
    queue_base.py  queues.py   queues, and their three kinds
    readers.py          file readers
    variables.py  initializers.py  scopes.py   variables of a session, their initial values; name scopes
    image_color.py        color spaces and types of images
    image.py              image decoding, rotation, cropping and resizing
"""
