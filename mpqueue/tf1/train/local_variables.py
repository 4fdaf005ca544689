"""Local variables: counts of epochs and lists of files, which TensorFlow keeps in variables of this collection."""

from collections.abc import Callable
from typing import Final

from mpqueue.tf1.queues.graph import default_graph

_LOCAL_VARIABLES: Final = "local_variables"


class LocalVariable:
    """State with an initial value; kept by the default graph until `reset_default_graph`.

    It belongs to one process: a source that holds it is not moved to another one.
    """

    def initialize(self) -> None:
        """Compute the initial value anew and take it."""
        raise NotImplementedError


def add_local_variable(variable: LocalVariable) -> None:
    """Add a variable to those that `local_variables_initializer` initializes."""
    default_graph().add_to_collection(_LOCAL_VARIABLES, variable)


def local_variables_initializer() -> Callable[[], None]:
    """Reset all local variables: epochs are counted from 0, file patterns matched again.

    They are initialized when they are made, so that a program need not call this; one written for TensorFlow may.

    Returns:
        A callable that does the same again, for ``session.run(local_variables_initializer())``.

    Follows: ``tf.compat.v1.local_variables_initializer``, except that nothing has to be run first.
    """
    _initialize()
    return _initialize


def _initialize() -> None:
    for variable in default_graph().get_collection(_LOCAL_VARIABLES):
        variable.initialize()
