"""TF1's array functions as scripts call them: lines of code, or a function and its arguments, in a graph of their own."""

import ast
from typing import Any

import numpy as np

import mpqueue.compat.v1 as tf
from golden import values
from mpqueue.errors import OpError

FLOAT_TOLERANCE = 1e-5


class Arguments:
    """Makes the arguments of one case, and remembers what is to be fed."""

    def __init__(self) -> None:
        self.feeds = {}

    def make(self, document):
        if isinstance(document, list):
            return [self.make(item) for item in document]
        if not isinstance(document, dict):
            return document
        if "tensor" in document:
            array = document["tensor"]
            return tf.constant(values.decode_array(array), array["dtype"], array["shape"])
        if "placeholder" in document:
            node = tf.placeholder(document["placeholder"], document["shape"])
            self.feeds[node] = values.decode_array(document["feed"])
            return node
        if "sparse" in document:
            return tf.SparseTensor(**values.decode(document))
        if "tf" in document:
            return named(document["tf"])
        if "python" in document:
            return eval(document["python"], {"np": np, "tf": tf})
        if "dtype" in document and "data" in document:
            return values.decode_array(document)
        return {key: self.make(item) for key, item in document.items()}


def named(dotted):
    found = tf
    for part in dotted.split("."):
        found = getattr(found, part)
    return found


def evaluate(case, arguments):
    """What the case makes in the graph: nodes and other values."""
    if "code" not in case:
        call = named(case["op"])
        options = {key: arguments.make(item) for key, item in case.get("kwargs", {}).items()}
        return call(*[arguments.make(item) for item in case["args"]], **options)
    names = {"tf": tf, "np": np} | {key: arguments.make(item) for key, item in case["args"].items()}
    body = ast.parse(case["code"])
    last = body.body.pop()
    exec(compile(body, "<case>", "exec"), names)
    return eval(compile(ast.Expression(last.value), "<case>", "eval"), names)


def is_node(value):
    return isinstance(value, tf.Tensor | tf.SparseTensor | tf.Operation) or hasattr(value, "_as_graph_element")


def nodes_of(value):
    if is_node(value):
        return [value]
    if isinstance(value, list | tuple):
        return [node for item in value for node in nodes_of(item)]
    return [node for item in value.values() for node in nodes_of(item)] if isinstance(value, dict) else []


def replaced(value, results):
    """The same structure with results for nodes."""
    if is_node(value):
        return results.pop(0)
    if isinstance(value, tuple) and hasattr(value, "dense_shape"):
        return value
    if isinstance(value, list | tuple):
        items = [replaced(item, results) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return {key: replaced(item, results) for key, item in value.items()} if isinstance(value, dict) else value


def encode(value) -> Any:
    if isinstance(value, tf.TensorShape):
        return {"TensorShape": None if value.ndims is None else value.as_list()}
    if isinstance(value, tf.Dimension):
        return {"Dimension": value.value}
    if isinstance(value, tf.DType):
        return {"DType": value.name}
    if isinstance(value, list):
        return {"list": [encode(item) for item in value]}
    if isinstance(value, tuple) and not hasattr(value, "dense_shape"):
        return {"tuple": [encode(item) for item in value]}
    if isinstance(value, dict):
        return {"dict": {str(key): encode(item) for key, item in value.items()}}
    if isinstance(value, np.generic):  # a float64 is a float, too
        value = np.asarray(value)
    return value if isinstance(value, str) else values.encode(value)


def static(node):
    if isinstance(node, tf.Operation):
        return None
    shape = node.get_shape()
    return None if shape.ndims is None else shape.as_list()


def check_like(result, like, arguments, session, node, feeds):
    """A random result has the type, shape and range that it should."""
    array = np.asarray(result)
    kind = "string" if array.dtype == object else array.dtype.name
    assert (kind, list(array.shape)) == (like["dtype"], like["shape"])
    assert "at_least" not in like or (array >= like["at_least"]).all()
    assert "below" not in like or (array < like["below"]).all()
    if "window_of" in like:
        assert is_window(array, arguments[like["window_of"]]), f"{array} is no window"
    if "rows_of" in like:
        rows = decode_argument(arguments[like["rows_of"]])
        assert sorted(map(repr, array.tolist())) == sorted(map(repr, rows.tolist()))
    if like.get("redrawn"):
        assert not np.array_equal(array, session.run(node, feeds)), "a second run gave the same"


def decode_argument(document):
    return values.decode_array(document.get("tensor") or document.get("feed") or document)


def is_window(array, document):
    whole = decode_argument(document)
    places = np.ndindex(*(have - size + 1 for have, size in zip(whole.shape, array.shape, strict=True)))
    return any(
        np.array_equal(whole[tuple(np.s_[at : at + size] for at, size in zip(place, array.shape, strict=True))], array)
        for place in places
    )


def check_error(error, expect, when):
    names = {each.__name__.lstrip("_") for each in type(error).__mro__}
    assert expect.get("error") in names, f"{error!r}, expected {expect}"
    assert expect["when"] == when, f"{error!r} came at {when} time, expected {expect}"


def run(case, _folder):
    case = case | case.get("v2_behavior_off", {})
    expect = case["expect"]
    with tf.Graph().as_default(), tf.Session() as session:
        arguments = Arguments()
        try:
            made = evaluate(case, arguments)
        except Exception as error:
            if "error" not in expect:
                raise
            check_error(error, expect, "build")
            return
        nodes = nodes_of(made)
        if "static_shape" in case:
            assert static(made) == case["static_shape"], f"static shape {static(made)}, expected {case['static_shape']}"
        elif "static_shapes" in case:
            found = [static(node) for node in nodes]
            assert found == case["static_shapes"], f"static shapes {found}, expected {case['static_shapes']}"
        try:
            results = session.run(nodes, arguments.feeds) if nodes else []
        except OpError as error:
            if "error" not in expect:
                raise
            check_error(error, expect, "run")
            return
        assert "error" not in expect, f"no error, expected {expect}"
        if "like" in expect:
            check_like(results[0], expect["like"], case["args"], session, nodes[0], arguments.feeds)
            return
        found = values.difference(encode(replaced(made, list(results))), expect["output"], FLOAT_TOLERANCE)
        assert found is None, found
