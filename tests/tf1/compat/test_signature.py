"""The public form of a function: its notation, and the resulting signature and docstring."""

import inspect

import pytest

import mpqueue.compat.v1 as tf
from mpqueue.tf1.compat.functions.declare import public
from mpqueue.tf1.compat.ops.dtypes import DType, float32, int64
from mpqueue.tf1.compat.ops.signature import Signature, argument_descriptions
from mpqueue.tf1.compat.ops.table import TABLE


def own_parameters(function):
    return dict(inspect.signature(function).parameters)


def gather(params, indices, batch: int = 0, *, kind: DType = float32, name=None): ...


def form(text, function=gather):
    return Signature(text, own_parameters(function))


def test_parameters_are_in_the_order_of_the_signature():
    signature = form("gather(params, indices, validate_indices=None, name, batch as batch_dims, kind=int64)")
    assert list(signature.plain.parameters) == [
        "params", "indices", "validate_indices", "name", "batch_dims", "kind",
    ]  # fmt: skip
    assert signature.plain.parameters["kind"].default is int64
    assert signature.plain.parameters["batch_dims"].default == 0


def test_arguments_are_converted_to_own_names_and_types():
    signature = form("gather(params, indices, validate_indices=None, name, batch as batch_dims, kind)")
    arguments = signature.converted(signature.bound((1, 2, True, "here"), {"batch_dims": 3, "kind": "int64"}))
    assert arguments == {"params": 1, "indices": 2, "name": "here", "batch": 3, "kind": int64}


def test_old_name_is_an_alias_of_the_new_one():
    signature = form("gather(params, indices, batch=None, kind, name, old_batch=batch)")
    assert signature.converted(signature.bound((1, 2), {"old_batch": 5}))["batch"] == 5
    assert signature.converted(signature.bound((1, 2), {"batch": 4}))["batch"] == 4


def test_passing_a_parameter_under_both_names_raises():
    signature = form("gather(params, indices, batch=None, kind, name, old_batch=batch)")
    with pytest.raises(ValueError, match="Cannot specify both 'old_batch' and 'batch'"):
        signature.bound((1, 2), {"batch": 4, "old_batch": 5})


def test_too_many_arguments_raise():
    with pytest.raises(TypeError, match="too many positional arguments"):
        form("gather(params, indices, name)").bound((1, 2, "here", 4), {})


def test_parameters_after_a_star_are_keyword_only():
    with pytest.raises(TypeError, match="too many positional arguments"):
        form("gather(params, indices, *, batch)").bound((1, 2, 3), {})


def test_docstring_describes_all_arguments_in_order():
    text = "Take rows.\n\nArgs:\n    kind: Their type,\n        at last.\n\nRaises:\n    ValueError: No row."
    signature = form("gather(params, indices, fast=None, name, kind, type=kind, batch)")
    assert signature.document(text, {"params": "The rows."}) == (
        "Take rows.\n\nArgs:\n    params: The rows.\n    fast: No effect.\n    name: Name of the node.\n"
        "    kind: Their type,\n        at last.\n    type: Old name of ``kind``.\n\nRaises:\n    ValueError: No row."
    )


def test_descriptions_are_read_from_a_docstring():
    def read(path, size):
        """Read.

        Args:
            path: A file,
                or a folder.
            size: Bytes.

        Returns: Them.
        """

    assert argument_descriptions(read) == {"path": "A file,\n        or a folder.", "size": "Bytes."}
    assert argument_descriptions(None) == {}


@pytest.mark.parametrize("name", sorted(name for name, each in TABLE.items() if each.public))
def test_an_operation_with_a_public_form_is_that_function(name):
    """It has this name and signature, and its docstring names TensorFlow's function."""
    function = tf
    for part in TABLE[name].signature.path.split("."):
        function = getattr(function, part)
    assert list(inspect.signature(function).parameters) == list(TABLE[name].signature.plain.parameters)
    assert f"``tf.{TABLE[name].signature.path}``" in function.__doc__.partition("Follows:")[2]


def test_none_in_place_of_a_tensor_raises_with_the_argument_name():
    with pytest.raises(ValueError, match=r"expand_dims\(\) got None for one of input, axis: pass a tensor"):
        tf.expand_dims([1, 2])


def test_error_of_a_wrong_call_names_the_function():
    with pytest.raises(TypeError, match=r"reshape\(\) missing a required argument: 'shape'"):
        tf.reshape([1, 2])


def test_numpy_error_is_replaced_by_the_shape_inference_error(session):
    values = tf.placeholder(tf.float32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Dimensions must be equal, but are 2 and 3") as caught:
        session.run(tf.add(values, [1.0, 2.0, 3.0]), {values: [1.0, 2.0]})
    assert caught.value.op.type == "AddV2"


def test_numpy_error_without_shape_inference_error_is_kept(session):
    values = tf.placeholder(tf.float32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="attempt to get argmax of an empty sequence"):
        session.run(tf.argmax(values), {values: []})


def eager(x, kind: bool = True, depth: int = 3, *, workers="thread"):
    """Do.

    Args:
        x: An array.
        depth: See `deeper`.
        workers: Here only.
    """


def deeper(depth):
    """Do.

    Args:
        depth: How deep.
    """


def test_function_can_take_its_parameters_from_another():
    @public("do(...)", like=(eager, deeper))
    def deferred(x: list, **given):
        """Do later."""
        return x, given

    assert str(inspect.signature(deferred)) == "(x: list, kind: bool = True, depth: int = 3)"
    assert deferred.__doc__ == "Do later.\n\nArgs:\n    x: An array.\n    depth: How deep."
    assert deferred([1], depth=4) == ([1], {"kind": True, "depth": 4})
