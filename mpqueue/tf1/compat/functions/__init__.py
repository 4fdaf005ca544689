"""TensorFlow 1's functions on nodes, by family.

From the ground up::

    declare.py          what gives functions and classes TensorFlow's form
    kernels.py          kernels of functions of values, and of what a session has for itself
    direct.py           the functions of single operations, from their declarations
    keys.py             the names of collections
    placeholders.py     nodes whose value the caller gives
    py_func.py          Python functions as nodes
    parsing.py          CSV records, Examples and SequenceExamples
    math.py             arithmetic, comparisons and functions of single elements
    array.py            shapes, arrays in other shapes, put together and taken apart
    reduce.py           axes taken together, products of matrices
    sparse.py           sparse tensors
    array_fill.py       arrays made of a shape
    text.py             texts: joined, split, cut, parsed
    control.py          groups, dependencies, printing, checking
    checks.py           operations that check values
    cond.py             a choice between two parts of a graph
    select.py           gather, masks, conditions, indexing with brackets
    operators.py        Python's operators
    numpy_protocol.py   NumPy's functions on nodes
    random.py           random values
    queue_base.py  queues.py   queues, and their three kinds
    readers.py          readers of files
    variables.py  initializers.py  scopes.py   values that a session keeps, and finds by their names
    image_color.py        colours and types of images
    image.py              images from files, turned, cut, of other sizes
"""
