"""Each parameter of a public function, class or method is used, is rejected by name, or is a known hint.

"Used" means that the code of the implementation reads the parameter. A check that refuses a value reads it, too.
"""

import ast
import inspect
import types

import pytest
from helpers.unread_parameters import body_of, names_read_by

import mpqueue.compat.v1 as tf
import mpqueue.python_io
import mpqueue.train
from mpqueue.tf1.compat.ops.registry import TABLE
from mpqueue.tf1.compat.ops.signature import Signature

# Parameters that change no result: a parameter, or a function and its parameter.
HINTS = {
    "name",  # in the graph
    *("summary_name", "tf.summary.merge.inputs", "tf.summary.FileWriter.graph"),  # mpqueue writes no summaries
    # A device: mpqueue computes on the CPU.
    *("tf.Graph.colocate_with.op", "tf.Graph.colocate_with.ignore_existing", "caching_device", "layout"),
    *("use_locking", "use_resource"),  # how concurrent updates are made: mpqueue's are always atomic
    *("aggregation", "constraint", "grad_a", "grad_b", "synchronization"),  # for training operations
    *("a_is_sparse", "b_is_sparse", "optimize"),  # how the same result is computed
    "tf.Variable.expected_shape",  # TensorFlow ignores it, too
    "tf.gather.validate_indices",  # TensorFlow ignores it, too: invalid indices are always an error
}


def is_abstract(function):
    """Return whether a function has no code, as a method that subclasses implement."""
    return all(isinstance(each, ast.Raise | ast.Pass) for each in body_of(function))


def callables_in(module, path):
    """Yield the path of each public function, class and method, and the function that is called."""
    for name in dir(module):
        value = getattr(module, name)
        if name.startswith("_") or not (callable(value) or isinstance(value, types.ModuleType)):
            continue
        if isinstance(value, types.ModuleType):
            if value.__name__.startswith("mpqueue."):
                yield from callables_in(value, f"{path}.{name}")
        elif not inspect.isclass(value):
            yield f"{path}.{name}", value
        else:
            yield from ((f"{path}.{name}{method}", function) for method, function in methods_of(value))


def methods_of(kind):
    for name, value in inspect.getmembers(kind, lambda each: inspect.isfunction(each) or inspect.ismethod(each)):
        function = getattr(value, "__func__", value)
        if function.__module__.startswith("mpqueue.") and (name == "__init__" or not name.startswith("_")):
            yield "" if name == "__init__" else f".{name}", function


def parameters_without_use(function):
    """Return the parameters of a public function that its implementation does not read."""
    held = inspect.getclosurevars(function).nonlocals
    signature = next((each for each in held.values() if isinstance(each, Signature)), None)
    if signature is None:
        return plain_parameters_without_use(inspect.unwrap(function))
    operation = TABLE.get(held["kind"]) if isinstance(held.get("kind"), str) else None
    if operation is not None:
        used = names_read_by(operation.compute) | {each.name for each in operation.inputs} | {"name"}
        used |= names_read_by(operation.by_hand) if operation.by_hand is not None else set()
    else:
        implementation = inspect.unwrap(function)
        used = names_read_by(implementation)
        # It passes them to the eager function, which `mpqueue.train` has.
        if any(each.kind is each.VAR_KEYWORD for each in inspect.signature(implementation).parameters.values()):
            used |= {each.own for each in signature.parameters}
    return [
        each.name
        for each in signature.parameters
        if not (each.replaced_by or each.is_refused) and (not each.own or each.own not in used)
    ]


def plain_parameters_without_use(function):
    code = function.__code__
    if code.co_filename.startswith("<") or is_abstract(function):  # generated, such as the constructor of a dataclass
        return []
    return [each for each in inspect.getargs(code).args if each not in names_read_by(function)]


MODULES = {"train": mpqueue.train, "python_io": mpqueue.python_io, "tf": tf}
PUBLIC = {
    path: function
    for name, module in MODULES.items()
    for path, function in callables_in(module, name)
    if inspect.isfunction(function)
}


def hint_of(path, parameter):
    return next((key for key in (parameter, f"{path}.{parameter}") if key in HINTS), None)


def test_each_parameter_is_used_or_refused_or_a_hint():
    without_use = [(path, each) for path, function in PUBLIC.items() for each in parameters_without_use(function)]
    rest = [f"{path}.{each}" for path, each in without_use if hint_of(path, each) is None]
    assert rest == []
    # The members of the list that exist.
    assert HINTS == {hint_of(*each) for each in without_use} - {None}
    assert len(PUBLIC) > 900


def test_parameter_that_is_only_deleted_counts_as_unused():
    def function(used, refused, dropped, *, ignored=None):
        del dropped
        if refused:
            raise ValueError("refused")
        return used

    assert parameters_without_use(function) == ["dropped", "ignored"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: tf.image.decode_jpeg(b"", acceptable_fraction=0.99), "acceptable_fraction must be 1, got 0.99"),
        (lambda: tf.image.decode_jpeg(b"", fancy_upscaling=False), "fancy_upscaling must be True"),
        (lambda: tf.image.decode_jpeg(b"", dct_method="nonsense"), "dct_method must be .* got 'nonsense'"),
        (lambda: tf.image.decode_jpeg(b"", dct_method="INTEGER_FAST"), "dct_method must be"),
        (lambda: tf.linspace(0.0, 1.0, 3, axis=1), r"lin_space\(\) supports only axis=0, got 1"),
        (lambda: tf.strided_slice([1, 2], [0], [1], var=tf.Variable(1)), r"strided_slice\(\) supports only var=None"),
        (lambda: tf.get_static_value(tf.constant(1), partial=True), "supports only partial=False"),
        (lambda: tf.Variable(1, variable_def="x"), "supports only variable_def=None"),
        (lambda: tf.Variable(1, import_scope="x"), "import_scope=None"),
    ],
)
def test_option_that_mpqueue_does_not_have_raises_while_the_graph_is_built(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_defaults_of_refused_options_are_accepted(session):
    line = tf.linspace(0.0, 1.0, 3, axis=0)
    assert session.run(tf.strided_slice(line, [0], [2], var=None)).tolist() == [0.0, 0.5]
    assert "axis: Must be 0." in tf.linspace.__doc__
