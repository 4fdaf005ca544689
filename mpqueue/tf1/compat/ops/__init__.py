"""TensorFlow 1's operations over NumPy arrays: types, shapes, and a table of declarations; no graphs or sessions.

Modules, from the lowest layer to the highest::

    dtypes.py             TensorFlow's element types, based on NumPy's
    dims.py               arithmetic on static shapes
    tensorshape.py        tf.Dimension and tf.TensorShape
    literals.py           conversion of values to the arrays of constants
    infer.py              statically known inputs, and shape inference: its notation and helper functions
    signature.py          the public form of a function: names, old names, docstring
    registry.py           the declaration of an operation, and the table of all operations
    array_make.py  array_shape.py  array_join.py  array_select.py   array operations
    strided_slice.py      indexing
    math_elementwise.py  math_reduce.py   arithmetic; reductions along axes
    sparse.py             sparse tensors, and their packed form for queues
    text.py               string operations, conversion between numbers and strings
    decoding.py           decoding and file operations, implemented by the eager functions
    image.py  image_geometry.py   images, implemented by `mpqueue.tf1.images`
    table.py              the complete table
"""
