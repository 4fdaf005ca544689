"""Values, dtypes and shapes of Examples, by TensorFlow's rules.

From the ground up::

    dtypes.py         dtypes by their names: NumPy's, and "string" for text
    shapes.py         static shapes, whose unknown dimensions are None
    conversion.py     Python values to arrays
    sparse.py         SparseTensorValue, the sparse triple
"""
