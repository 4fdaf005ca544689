"""Values, dtypes and shapes of Examples, by TensorFlow's rules.

The modules, from the bottom up::

    dtypes.py         dtypes by name: NumPy's, and "string" for strings
    shapes.py         static shapes, with None for unknown dimensions
    conversion.py     conversion of Python values to arrays
    sparse.py         SparseTensorValue, the sparse triple
"""
