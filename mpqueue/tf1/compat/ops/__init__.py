"""TensorFlow 1's operations over NumPy arrays: types, shapes, and a table of declarations; no graph, no session.

From the ground up::

    dtypes.py             TensorFlow's element types over NumPy's
    dims.py               arithmetic on static shapes
    tensorshape.py        tf.Dimension and tf.TensorShape
    literals.py           values as the arrays of constants
    infer.py              inputs as far as they are known, and rules of shapes: their language, helpers of those by hand
    signature.py          the public form of a function: names, old names, text
    registry.py           the declaration of an operation, and the table of all
    array_make.py  array_shape.py  array_join.py  array_select.py   arrays as such
    strided_slice.py      indexing with brackets
    math_elementwise.py  math_reduce.py   arithmetic; axes taken together
    sparse.py             sparse tensors, and their way through a queue
    text.py               texts, and numbers as texts
    decoding.py           texts and files, by the eager functions
    image.py  image_geometry.py   images, by `mpqueue.tf1.images`
    table.py              the table, with all families in it
"""
