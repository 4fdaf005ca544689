"""Local variables: epoch counters and file lists, which TensorFlow keeps in the collection of this name."""

from collections.abc import Callable
from typing import Final

from mpqueue.tf1.queues.graph import default_graph

_LOCAL_VARIABLES: Final = "local_variables"


class LocalVariable:
    """State with an initial value; the default graph keeps it until `reset_default_graph`.

    It belongs to one process: a source that refers to it cannot move to another process.
    """

    def initialize(self) -> None:
        """Compute and set the initial value."""
        raise NotImplementedError


def add_local_variable(variable: LocalVariable) -> None:
    """Add a variable to the collection that `local_variables_initializer` initializes."""
    default_graph().add_to_collection(_LOCAL_VARIABLES, variable)


def local_variables_initializer() -> Callable[[], None]:
    """Reset all local variables: epoch counts start from 0, and file patterns are matched again.

    Local variables are initialized when they are created, so a program does not need to call this function. It is
    provided for programs written for TensorFlow.

    Returns:
        A callable that resets them again, for ``session.run(local_variables_initializer())``.

    Follows: ``tf.compat.v1.local_variables_initializer``, except that it takes effect without being run.
    """
    _initialize()
    return _initialize


def _initialize() -> None:
    for variable in default_graph().get_collection(_LOCAL_VARIABLES):
        variable.initialize()
