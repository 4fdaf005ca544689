"""What TensorFlow keeps in local variables: counts of epochs, lists of files; here they exist once they are made."""

from collections.abc import Callable
from typing import Final

from mpqueue.queues.graph import default_graph

_LOCAL_VARIABLES: Final = "local_variables"


class LocalVariable:
    """State with an initial value; kept by the default graph until `reset_default_graph`.

    It is that of one process: what holds it is not moved to another.
    """

    def initialize(self) -> None:
        """Take the initial value, computed anew."""
        raise NotImplementedError


def add_local_variable(variable: LocalVariable) -> None:
    """Have `local_variables_initializer` initialize it."""
    default_graph().add_to_collection(_LOCAL_VARIABLES, variable)


def local_variables_initializer() -> Callable[[], None]:
    """Give all local variables their initial values anew: epochs are counted from 0, file patterns matched again.

    They had them from the start, so that programs need not call this; those written for TensorFlow may.

    Returns:
        A callable that does it once more, for ``session.run(local_variables_initializer())``.

    Follows: ``tf.compat.v1.local_variables_initializer``, except that nothing has to be run first.
    """
    _initialize()
    return _initialize


def _initialize() -> None:
    for variable in default_graph().get_collection(_LOCAL_VARIABLES):
        variable.initialize()
