"""Counted epochs."""

from typing import Any

import numpy as np

from mpqueue.compat.functions.array import identity
from mpqueue.compat.functions.control import control_dependencies
from mpqueue.compat.functions.files import matching_files
from mpqueue.compat.functions.keys import GraphKeys
from mpqueue.compat.functions.scopes import name_scope
from mpqueue.compat.functions.variables import Variable
from mpqueue.compat.graph.convert import convert_to_tensor
from mpqueue.compat.graph.nodes import Tensor


def limit_epochs(tensor: Any, num_epochs: int | None = None, name: str | None = None) -> Tensor:
    """The same value, so many times per session; then `OutOfRangeError`.

    The count is a local variable, which has to be initialised (`local_variables_initializer`).

    Args:
        tensor: The value.
        num_epochs: How many times; None for no end.
        name: Name of the node.

    Raises:
        ValueError: ``num_epochs`` is not above 0.

    Follows: ``tf.train.limit_epochs``.
    """
    if num_epochs is None:
        return convert_to_tensor(tensor)
    if num_epochs <= 0:
        raise ValueError(f"num_epochs must be above 0, not {num_epochs}.")
    with name_scope(name, "limit_epochs", [tensor]) as scope:
        local = [GraphKeys.LOCAL_VARIABLES]
        epochs = Variable(np.int64(0), trainable=False, collections=local, name="epochs")
        with control_dependencies([epochs.count_up_to(num_epochs)]):
            return identity(tensor, name=scope)  # type: ignore[no-any-return]


def match_filenames_once(pattern: Any, name: str | None = None) -> Variable:
    """The files that match, looked for when the local variables are initialised.

    Args:
        pattern: A glob pattern, or several.
        name: Name of the variable.

    Follows: ``tf.train.match_filenames_once``.
    """
    with name_scope(name, "matching_filenames", [pattern]) as scope:
        local = [GraphKeys.LOCAL_VARIABLES]
        found = matching_files(pattern)
        return Variable(found, trainable=False, collections=local, validate_shape=False, name=scope)
