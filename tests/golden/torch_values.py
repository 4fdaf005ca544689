"""The encoding of the topic torch: JSON to Python values and back."""

import math

import numpy as np
import torch

from golden.torch_data import Point


def _item_in(dtype, item):
    if isinstance(item, str) and dtype != "text":
        return float(item)
    if isinstance(item, list):
        return complex(float(item[0]), float(item[1]))
    return item


def _flat(name, document):
    return [_item_in(name, item) for item in document["data"]]


def decode(document):
    """An input of a case; a list stays one."""
    if isinstance(document, list):
        return [decode(item) for item in document]
    if not isinstance(document, dict):
        return document
    if "tensor" in document:
        dtype = getattr(torch, document["tensor"])
        return torch.tensor(_flat(document["tensor"], document), dtype=dtype).reshape(document["shape"])
    if "array" in document:
        return np.array(_flat(document["array"], document), document["array"]).reshape(document["shape"])
    if "scalar" in document:
        return np.dtype(document["scalar"]).type(document["data"])
    if "list" in document:
        return [decode(item) for item in document["list"]]
    if "tuple" in document:
        return tuple(decode(item) for item in document["tuple"])
    if "set" in document:
        return set(document["set"])
    if "dict" in document:
        return {decode(key): decode(value) for key, value in document["dict"]}
    if "named" in document:
        return Point(**{name: decode(value) for name, value in document["fields"].items()})
    if "float" in document:
        return float(document["float"])
    assert "object" in document, document
    return object()


def _item_out(item):
    if isinstance(item, complex):
        return [_item_out(item.real), _item_out(item.imag)]
    if isinstance(item, float) and not math.isfinite(item):
        return str(item)
    return item


def encode(value):
    """A result in the form of the cases."""
    if isinstance(value, torch.Tensor):
        data = [_item_out(item) for item in value.detach().flatten().tolist()]
        if value.dtype == torch.int64 and value.dim() == 1:
            return data
        return {"tensor": str(value.dtype).removeprefix("torch."), "shape": list(value.shape), "data": data}
    if isinstance(value, np.ndarray):
        data = [_item_out(item) for item in value.ravel().tolist()]
        return {"array": value.dtype.name, "shape": list(value.shape), "data": data}
    if isinstance(value, np.generic):
        return {"scalar": value.dtype.name, "data": _item_out(value.item())}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return {"float": _item_out(value)}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {"named": type(value).__name__, "fields": {name: encode(getattr(value, name)) for name in value._fields}}
    return _encode_container(value)


def _encode_container(value):
    if isinstance(value, list):
        return {"list": [encode(item) for item in value]}
    if isinstance(value, tuple):
        return {"tuple": [encode(item) for item in value]}
    if isinstance(value, set):
        return {"set": sorted(value)}
    if isinstance(value, dict):
        encoded = {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
        return encoded if type(value) is dict else encoded | {"class": type(value).__name__}
    return {"object": type(value).__name__}


def same(got, expected):
    """Return whether two encoded values are equal, including their types; among ``data``, 1.0 can be written as 1."""
    if isinstance(expected, dict):
        if not isinstance(got, dict) or got.keys() != expected.keys():
            return False
        return all(got[key] == value if key == "data" else same(got[key], value) for key, value in expected.items())
    if isinstance(expected, list):
        return isinstance(got, list) and len(got) == len(expected) and all(map(same, got, expected))
    return type(got) is type(expected) and got == expected


def numbers_in(value):
    """All numbers of an encoded batch, in order."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return []
    if isinstance(value, int | float):
        return [value]
    if isinstance(value, list):
        return [number for item in value for number in numbers_in(item)]
    for key in ("data", "list", "tuple", "float", "scalar"):
        if key in value:
            return numbers_in(value[key])
    return [number for _, item in value.get("dict", ()) for number in numbers_in(item)]
