"""The encoding of the case files: JSON to Python values and back, and how two of them are compared."""

import math

import numpy as np

STRING = "string"


def _item(dtype: str, item):
    if dtype == STRING:
        return item.encode("latin-1")
    if isinstance(item, str):
        return float(item)  # "nan", "inf", "-inf"
    if isinstance(item, list):
        return complex(float(item[0]), float(item[1]))
    return item


def decode_array(document) -> np.ndarray:
    """An encoded array; strings become an object array of bytes, bfloat16 the same values as float32."""
    name = document["dtype"]
    items = [_item(name, item) for item in document["data"]]
    dtype = np.dtype(object) if name == STRING else np.dtype("float32" if name == "bfloat16" else name)
    flat = np.empty(len(items), dtype)
    for place, item in enumerate(items):
        flat[place] = item
    return flat.reshape(document["shape"])


def decode(document):
    """Any encoded value: arrays, containers, sparse triples (as a dict of three arrays), plain JSON as it is."""
    if isinstance(document, dict):
        if "dtype" in document and "data" in document:
            return decode_array(document)
        if "list" in document:
            return [decode(item) for item in document["list"]]
        if "tuple" in document:
            return tuple(decode(item) for item in document["tuple"])
        if "dict" in document:
            return {key: decode(item) for key, item in document["dict"].items()}
        if "sparse" in document:
            return {key: decode(item) for key, item in document["sparse"].items()}
    return document


def _encode_item(item):
    if isinstance(item, bytes):
        return item.decode("latin-1")
    if isinstance(item, str):
        return item.encode().decode("latin-1")
    if isinstance(item, complex | np.complexfloating):
        return [_encode_item(item.real), _encode_item(item.imag)]
    if isinstance(item, bool | np.bool_):
        return bool(item)
    if isinstance(item, int | np.integer):
        return int(item)
    item = float(item)
    return item if math.isfinite(item) else str(item)


def encode(value):
    """A Python value in the form of the case files, to be compared with an expectation."""
    if isinstance(value, tuple) and hasattr(value, "dense_shape"):
        return {"sparse": {key: encode(getattr(value, key)) for key in ("indices", "values", "dense_shape")}}
    if isinstance(value, dict):
        return {"dict": {str(key): encode(item) for key, item in value.items()}}
    if isinstance(value, list):
        return {"list": [encode(item) for item in value]}
    if isinstance(value, tuple):
        return {"tuple": [encode(item) for item in value]}
    if value is None or (isinstance(value, bool | int | float) and not isinstance(value, np.generic)):
        return value
    array = np.asarray(value, dtype=object) if isinstance(value, bytes | str) else np.asarray(value)
    name = STRING if array.dtype.kind in "OSUT" else array.dtype.name
    return {"dtype": name, "shape": list(array.shape), "data": [_encode_item(item) for item in array.ravel().tolist()]}


def _close(got, expected, rel) -> bool:
    if isinstance(got, list) and isinstance(expected, list):
        return len(got) == len(expected) and all(_close(a, b, rel) for a, b in zip(got, expected, strict=True))
    if isinstance(got, float) and isinstance(expected, int | float) and not isinstance(expected, bool):
        return math.isclose(got, expected, rel_tol=rel, abs_tol=rel * 1e-3) if rel else got == expected
    return type(got) is type(expected) and got == expected


def difference(got, expected, rel: float = 0.0, where: str = "value") -> str | None:
    """The first place where two encoded values differ, in words, or None."""
    if isinstance(expected, dict) and isinstance(got, dict):
        if set(got) != set(expected):
            return f"{where}: keys {sorted(got)}, expected {sorted(expected)}"
        for key in expected:
            if key == "data" and "dtype" in expected:
                if not _close(got[key], expected[key], rel):
                    return f"{where}: {got[key]}, expected {expected[key]}"
            elif found := difference(got[key], expected[key], rel, f"{where}.{key}"):
                return found
        return None
    if isinstance(expected, list) and isinstance(got, list) and len(got) == len(expected):
        for place, (left, right) in enumerate(zip(got, expected, strict=True)):
            if found := difference(left, right, rel, f"{where}[{place}]"):
                return found
        return None
    return None if _close(got, expected, rel) else f"{where}: {got!r}, expected {expected!r}"


def assert_same(value, expected, rel: float = 0.0, where: str = "value") -> None:
    """A Python value is what a case expects, dtype, shape and content."""
    found = difference(encode(value), expected, rel, where)
    assert found is None, found
