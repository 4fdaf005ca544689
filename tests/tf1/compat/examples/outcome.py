"""Print the results of a script as one JSON document, with values in a comparable form."""

import json
import math

import numpy as np


def _item(value):
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    value = float(value)
    return value if math.isfinite(value) else repr(value)


def _array(value):
    """Return dtype, shape and flat data; every kind of string has dtype "string"."""
    if isinstance(value, (bytes, str)):
        return {"dtype": "string", "shape": [], "data": [_item(value)]}
    array = np.asarray(value)
    kind = "string" if array.dtype.kind in "OSUT" else array.dtype.name
    items = [_item(item) for item in array.ravel().tolist()]
    return {"dtype": kind, "shape": list(array.shape), "data": items}


def plain(value):
    """Convert a result of ``Session.run``, or counts, names and flags of a script, to JSON values."""
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype == bool and value.ndim == 0:
        return bool(value)  # a Python or NumPy bool
    if isinstance(value, (np.ndarray, np.generic, bytes)):
        return _array(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return _item(value)
    if isinstance(value, dict):
        return {str(_item(key) if isinstance(key, bytes) else key): plain(item) for key, item in value.items()}
    if hasattr(value, "dense_shape") and hasattr(value, "indices"):
        return {"sparse": [plain(np.asarray(part)) for part in (value.indices, value.values, value.dense_shape)]}
    if isinstance(value, tuple):
        return {"tuple": [plain(item) for item in value]}
    if isinstance(value, list):
        return [plain(item) for item in value]
    raise TypeError(f"no plain form for a {type(value).__name__}")


def emit(**results):
    """Print the results as the only output of a script."""
    print(json.dumps(plain(results), indent=1, sort_keys=True))
