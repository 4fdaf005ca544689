"""Values that come a number of times, and file names that are looked up once."""

from typing import Any

import numpy as np

from mpqueue.compat.functions.array import identity
from mpqueue.compat.functions.control import control_dependencies
from mpqueue.compat.functions.decoding import matching_files
from mpqueue.compat.functions.keys import GraphKeys
from mpqueue.compat.functions.scopes import name_scope
from mpqueue.compat.functions.variables import Variable
from mpqueue.compat.graph.convert import convert_to_tensor
from mpqueue.compat.graph.nodes import Tensor
from mpqueue.train.epochs import checked_epochs


def limit_epochs(tensor: Any, num_epochs: int | None = None, name: str | None = None) -> Tensor:
    """Return a node that gives a value ``num_epochs`` times per session, and then raises `OutOfRangeError`.

    The count is a local variable, which has to be initialised (`local_variables_initializer`).

    Args:
        tensor: The value.
        num_epochs: Number of times; None for no end.
        name: Name of the node.

    Raises:
        TypeError: ``num_epochs`` is no integer.
        ValueError: It is not above 0.
    """
    limit = checked_epochs(num_epochs)
    if limit is None:
        return convert_to_tensor(tensor)
    with name_scope(name, "limit_epochs", [tensor]) as scope:
        local = [GraphKeys.LOCAL_VARIABLES]
        epochs = Variable(np.int64(0), trainable=False, collections=local, name="epochs")
        with control_dependencies([epochs.count_up_to(limit)]):
            return identity(tensor, name=scope)  # type: ignore[no-any-return]


def match_filenames_once(pattern: Any, name: str | None = None) -> Variable:
    """Return a variable of the files that match, looked for when the local variables are initialised.

    Args:
        pattern: A glob pattern, or several.
        name: Name of the variable.
    """
    with name_scope(name, "matching_filenames", [pattern]) as scope:
        local = [GraphKeys.LOCAL_VARIABLES]
        found = matching_files(pattern)
        return Variable(found, trainable=False, collections=local, validate_shape=False, name=scope)
