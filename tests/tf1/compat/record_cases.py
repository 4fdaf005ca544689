"""Record the results of code samples with TensorFlow, as case files in the golden format (topic ``ops``).

    python record_cases.py CASES.json [NEW.txt]

Records the samples of CASES.json again, and adds the samples of NEW.txt, which are separated by lines ``---``. The
names in ``ARGS`` are arguments; a sample gets the arguments that it mentions. Run it where TensorFlow is installed.
"""

import ast
import builtins
import json
import math
import os
import re
import sys

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()
tf.logging.set_verbosity(tf.logging.ERROR)


def array(dtype, shape, data):
    return {"dtype": dtype, "shape": shape, "data": data}


def fed(dtype, shape, value):
    return {"placeholder": dtype, "shape": shape, "feed": value}


SIX = array("int32", [3, 2], [0, 1, 2, 3, 4, 5])
FLOATS = array("float32", [2, 3], [-1.5, 0.0, 2.25, 3.0, -0.5, 7.0])
PIXELS = array("uint8", [2, 2, 3], list(range(0, 240, 20)))
ARGS = {
    "x": fed("int32", [None, 2], SIX),  # partially known shape
    "u": fed("int32", None, SIX),  # unknown rank
    "k": {"tensor": SIX},  # constant
    "f": fed("float32", [None, 3], FLOATS),
    "fu": fed("float32", None, FLOATS),
    "fk": {"tensor": FLOATS},
    "d": fed("float64", [None], array("float64", [3], [0.5, -2.0, 3.75])),
    "h": fed("float16", [None], array("float16", [3], [0.5, -2.0, 3.75])),
    "b8": fed("uint8", [None], array("uint8", [4], [0, 1, 200, 255])),
    "l": fed("int64", [None], array("int64", [3], [3, -1, 7])),
    "lk": {"tensor": array("int64", [3], [3, -1, 7])},
    "p": fed("bool", [], array("bool", [], [True])),
    "q": fed("bool", [], array("bool", [], [False])),
    "m": fed("bool", [None, 2], array("bool", [3, 2], [True, False, False, True, True, True])),
    "mk": {"tensor": array("bool", [3], [True, False, True])},
    "i": fed("int32", [], array("int32", [], [2])),
    "i64": fed("int64", [], array("int64", [], [1])),
    "v": {"tensor": array("int32", [5], [1, 2, 3, 4, 5])},
    "vn": fed("int32", [None], array("int32", [4], [4, 2, 2, 9])),
    "c": {"tensor": array("complex64", [2], [[1.0, 2.0], [0.0, -1.0]])},
    "s": fed("string", [], array("string", [], ["a,b"])),
    "sv": fed("string", [None], array("string", [3], ["apple", "", "b\u00ff c"])),
    "sk": {"tensor": array("string", [2, 2], ["ab", "cd", "ef", "gh"])},
    "t3": {"tensor": array("int32", [2, 3, 4], list(range(24)))},
    "sp": {
        "sparse": {
            "indices": array("int64", [3, 2], [0, 1, 1, 0, 1, 1]),
            "values": array("int32", [3], [5, 6, 7]),
            "dense_shape": array("int64", [2], [2, 3]),
        }
    },
    "px": fed("uint8", [None, None, 3], PIXELS),
    "pk": {"tensor": PIXELS},
    "pf": {"tensor": array("float32", [2, 2, 3], [n / 12 for n in range(12)])},
    "pu": fed("uint8", None, PIXELS),
}


def decode_array(document):
    items = document["data"]
    if document["dtype"] == "string":
        out = np.empty(len(items), object)
        out[:] = [item.encode("latin-1") for item in items]
        return out.reshape(document["shape"])
    if document["dtype"].startswith("complex"):
        items = [complex(*item) for item in items]
    return np.array([float(item) if isinstance(item, str) else item for item in items], document["dtype"]).reshape(
        document["shape"]
    )


def make_argument(document, feeds):
    if "tensor" in document:
        value = decode_array(document["tensor"])
        return tf.constant(value, document["tensor"]["dtype"], document["tensor"]["shape"])
    if "placeholder" in document:
        node = tf.placeholder(document["placeholder"], document["shape"])
        feeds[node] = decode_array(document["feed"])
        return node
    if "sparse" in document:
        return tf.SparseTensor(**{key: decode_array(part) for key, part in document["sparse"].items()})
    raise ValueError(document)


def item_of(value):
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, str):
        return value.encode().decode("latin-1")
    if isinstance(value, complex | np.complexfloating):
        return [item_of(value.real), item_of(value.imag)]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    return float(value) if math.isfinite(value) else str(float(value))


def encode(value):
    if isinstance(value, tf.TensorShape):
        return {"TensorShape": None if value.ndims is None else value.as_list()}
    if isinstance(value, tf.Dimension):
        return {"Dimension": value.value}
    if isinstance(value, tf.DType):
        return {"DType": value.name}
    if isinstance(value, tf.SparseTensorValue):
        return {"sparse": {key: encode(np.asarray(part)) for key, part in value._asdict().items()}}
    if isinstance(value, list):
        return {"list": [encode(item) for item in value]}
    if isinstance(value, tuple):
        return {"tuple": [encode(item) for item in value]}
    if isinstance(value, dict):
        return {"dict": {str(key): encode(item) for key, item in value.items()}}
    if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, np.generic)):
        return value
    array = np.asarray(value, dtype=object) if isinstance(value, bytes) else np.asarray(value)
    kind = "string" if array.dtype.kind in "OSU" else array.dtype.name
    return {"dtype": kind, "shape": list(array.shape), "data": [item_of(item) for item in array.ravel().tolist()]}


def is_node(value):
    return isinstance(value, tf.Tensor | tf.SparseTensor | tf.Operation | tf.Variable)


def nodes_of(value):
    if is_node(value):
        return [value]
    if isinstance(value, list | tuple):
        return [node for item in value for node in nodes_of(item)]
    if isinstance(value, dict):
        return [node for item in value.values() for node in nodes_of(item)]
    return []


def replaced(value, results):
    if is_node(value):
        return results.pop(0)
    if isinstance(value, tf.SparseTensorValue):
        return value
    if isinstance(value, list | tuple) and not isinstance(value, tf.TensorShape):
        items = [replaced(item, results) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, dict):
        return {key: replaced(item, results) for key, item in value.items()}
    return value


def static(node):
    if isinstance(node, tf.Operation):
        return None
    shape = node.get_shape()
    return None if shape.ndims is None else shape.as_list()


def run_code(code, names):
    body = ast.parse(code)
    last = body.body.pop()
    exec(compile(body, "<case>", "exec"), names)
    return eval(compile(ast.Expression(last.value), "<case>", "eval"), names)


def public_class(error):
    """Return the name of the first class of an error that is a Python built-in or in tf.errors."""
    names = [kind.__name__ for kind in type(error).__mro__]
    return next(name for name in names if hasattr(builtins, name) or hasattr(tf.errors, name))


def record(number, piece):
    lines = piece.strip("\n").split("\n")
    code = "\n".join(lines)
    used = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    args = {name: document for name, document in ARGS.items() if name in used}
    case = {"id": f"{TOPIC}/{number:04d}", "op": "code", "code": code, "args": args}
    feeds = {}
    with tf.Graph().as_default(), tf.Session() as session:
        names = {"tf": tf, "np": np} | {name: make_argument(document, feeds) for name, document in args.items()}
        try:
            value = run_code(code, names)
        except Exception as error:
            return case | {"expect": {"error": public_class(error), "when": "build"}}
        nodes = nodes_of(value)
        if is_node(value):
            case["static_shape"] = static(value)
        elif nodes:
            case["static_shapes"] = [static(node) for node in nodes]
        try:
            results = list(session.run(nodes, feeds)) if nodes else []
        except tf.errors.OpError as error:
            return case | {"expect": {"error": type(error).__name__, "when": "run"}}
        return case | {"expect": {"output": encode(replaced(value, results))}}


def record_apart(number, piece):
    """Record in a child process, because some arguments crash TensorFlow; return None after a crash."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        try:
            with os.fdopen(writer, "w") as pipe:
                json.dump(record(number, piece), pipe)
        except BaseException as error:
            print(f"{piece}: {error!r}", file=sys.stderr)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    if not text:
        print(f"no result for {piece}", file=sys.stderr)
    return json.loads(text) if text else None


def pieces_of(cases, new):
    if os.path.exists(cases):
        with open(cases, encoding="utf-8") as file:
            yield from (case["code"] for case in json.load(file)["cases"])
    for path in new:
        with open(path, encoding="utf-8") as file:
            yield from (piece for piece in re.split(r"^---\n", file.read(), flags=re.MULTILINE) if piece.strip())


def main(target, *new):
    global TOPIC
    TOPIC = os.path.basename(target).removesuffix(".json")
    pieces = list(pieces_of(target, new))
    cases = [case for number, piece in enumerate(pieces, 1) if (case := record_apart(number, piece))]
    with open(target, "w", encoding="utf-8") as file:
        rows = ",\n".join(json.dumps(case) for case in cases)
        file.write(
            f'{{"topic": "ops", "made_with": {{"tensorflow": "{tf.version.VERSION}"}}, "cases": [\n{rows}\n]}}\n'
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
