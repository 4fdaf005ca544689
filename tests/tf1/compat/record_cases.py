"""Record the results of code samples with TensorFlow, as case files in the golden format (topic ``ops``).

    python record_cases.py CASES.json [NEW.txt]

Records the samples of CASES.json again, and adds the samples of NEW.txt, which are separated by lines ``---``. The
names in ``ARGS`` are arguments; a sample gets the arguments that it mentions. Run it where TensorFlow is installed.
"""

import ast
import builtins
import json
import os
import re
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import tensorflow.compat.v1 as tf

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from golden.topics import ops

tf.disable_v2_behavior()
tf.logging.set_verbosity(tf.logging.ERROR)
ops.tf = tf  # the samples run on TensorFlow here


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


def public_class(error):
    """Return the name of the first class of an error that is a Python built-in or in tf.errors."""
    names = [kind.__name__ for kind in type(error).__mro__]
    return next(name for name in names if hasattr(builtins, name) or hasattr(tf.errors, name))


def record(number, piece):
    code = piece.strip("\n")
    used = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    args = {name: document for name, document in ARGS.items() if name in used}
    case = {"id": f"{TOPIC}/{number:04d}", "op": "code", "code": code, "args": args}
    with tf.Graph().as_default(), tf.Session() as session:
        arguments = ops.Arguments()
        try:
            value = ops.evaluate(case, arguments)
        except Exception as error:
            return case | {"expect": {"error": public_class(error), "when": "build"}}
        nodes = ops.nodes_of(value)
        if ops.is_node(value):
            case["static_shape"] = ops.static(value)
        elif nodes:
            case["static_shapes"] = [ops.static(node) for node in nodes]
        try:
            results = list(session.run(nodes, arguments.feeds)) if nodes else []
        except tf.errors.OpError as error:
            return case | {"expect": {"error": type(error).__name__, "when": "run"}}
        return case | {"expect": {"output": ops.encode(ops.replaced(value, results))}}


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
