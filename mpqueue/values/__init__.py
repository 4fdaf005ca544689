"""Values, dtypes and shapes that callers pass, as Examples and the TensorFlow 1 toolbox understand them.

From the ground up::

    dtypes.py         dtypes by their names: NumPy's, and "string" for text
    shapes.py         static shapes, whose unknown dimensions are None
    conversion.py     Python values to arrays
    sparse.py         SparseTensorValue, the sparse triple
"""
