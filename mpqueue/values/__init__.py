"""Values, dtypes and shapes that callers give, as every part of the TensorFlow 1 toolbox understands them.

From the ground up::

    dtypes.py        names of dtypes, TensorFlow's words for NumPy's
    shapes.py        static shapes, whose unknown dimensions are None
    conversion.py    Python values to arrays
    sparse.py        SparseTensorValue, the sparse triple
"""
