"""Signatures: a call that TensorFlow takes means the same here, by position and by name."""

import importlib
import inspect
import re

_READ = "what is assigned is always read"
_DRAWN = "what a summary takes is not looked at, and `collections` is given by name"
_STARTED = "None: what the enqueuer is started with"
_OLD = "the same function as argmax, which takes all of its arguments"
DIFFERENCES = {  # the reason, and the parameters that differ
    "mpqueue.FixedLengthRecordReader": ("the name stands last, as on TensorFlow 1's page", "name encoding"),
    "mpqueue.ReaderBase": ("only its subclasses are made", "reader_ref"),
    "mpqueue.decode_raw": ("as on TensorFlow 1's page", "input_bytes out_type bytes"),
    "mpqueue.train.QueueRunner.create_threads": ("there may be no session", "sess"),
    "mpqueue.compat.v1.DType": ("nobody makes one", "type_enum handle_data"),
    "mpqueue.compat.v1.Variable.assign": (_READ, "read_value"),
    "mpqueue.compat.v1.Variable.assign_add": (_READ, "read_value"),
    "mpqueue.compat.v1.Variable.assign_sub": (_READ, "read_value"),
    "mpqueue.compat.v1.arg_max": (_OLD, "dimension output_type name"),
    "mpqueue.compat.v1.arg_min": (_OLD, "dimension output_type name"),
    "mpqueue.compat.v1.gfile.FastGFile.seek": ("without the old name of offset", "offset position"),
    "mpqueue.compat.v1.is_symbolic_tensor": ("takes what it is asked about by position", "tensor"),
    "mpqueue.compat.v1.keras.utils.Sequence": (_STARTED, "workers use_multiprocessing max_queue_size"),
    "mpqueue.compat.v1.numpy_function": ("is no decorator", "func inp Tout"),
    "mpqueue.compat.v1.scatter_nd": ("an index out of bounds is an error", "bad_indices_policy name"),
    "mpqueue.compat.v1.summary.FileWriter": ("nothing is written", "logdir"),
    **{
        f"mpqueue.compat.v1.summary.{name}": (_DRAWN, "collections")
        for name in ("audio", "histogram", "image", "scalar", "tensor_summary", "text")
    },
}
EMPTY = inspect.Parameter.empty


def run(case, folder):
    path = case["id"].partition("/")[2]
    found = differences(parameters_of(named(path)), case["parameters"])
    _, expected = DIFFERENCES.get(path, ("", ""))
    assert {re.match(r"\w+", one)[0] for one in found} == set(expected.split()), found


def named(path):
    """What has this name: a module, and attributes of it."""
    names = path.split(".")
    for length in range(len(names), 0, -1):
        try:
            found = importlib.import_module(".".join(names[:length]))
        except ModuleNotFoundError:
            continue
        for name in names[length:]:
            found = getattr(found, name)
        return found
    raise AssertionError(path)


def parameters_of(function):
    return {name: one for name, one in inspect.signature(function).parameters.items() if name != "self"}


def differences(ours, theirs):
    """Say which of their parameters lies elsewhere here, or has another default."""
    found = []
    takes_any = any(one.kind is one.VAR_KEYWORD for one in ours.values())
    for place, one in enumerate(theirs):
        name = one["name"]
        mine = ours.get(name)
        if mine is None:
            if not takes_any:
                found.append(f"{name} is not taken")
            continue
        default = shown(mine.default)
        if default != one.get("default", EMPTY):
            found.append(f"{name}={default!r}, theirs is {one.get('default', EMPTY)!r}")
        if not one.get("keyword_only") and (mine.kind is mine.KEYWORD_ONLY or list(ours).index(name) != place):
            found.append(f"{name} is not at place {place}")
    return found


def shown(default):
    """A default as it stands in the cases."""
    if default is EMPTY or default is None or isinstance(default, bool | int | float | str):
        return default
    if isinstance(default, list | tuple):
        return {type(default).__name__: [*map(shown, default)]}
    return {"dtype": default.name} if hasattr(default, "as_numpy_dtype") else {"other": str(default)}
