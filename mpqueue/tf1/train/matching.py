"""match_filenames_once: names of files, looked up once."""

# ruff: noqa: ARG001 - `name` stands in TensorFlow's signature

from typing import Any

from mpqueue.tf1.queues.source import Source
from mpqueue.tf1.readers.files import matching_files
from mpqueue.tf1.train.local_variables import LocalVariable, add_local_variable


class _Matches(LocalVariable):
    """The names that matched when it was initialized."""

    def __init__(self, pattern: Any) -> None:
        self._pattern = pattern
        self.initialize()
        add_local_variable(self)

    def initialize(self) -> None:
        """Match the pattern again."""
        self._names = matching_files(self._pattern)

    def __call__(self) -> Any:
        return self._names.copy()


def match_filenames_once(pattern: Any, name: str | None = None) -> Source:
    """Return a `Source` that returns, at every call, the names that match a pattern now.

    `local_variables_initializer` matches again. `string_input_producer` takes it in place of a list of names.

    Args:
        pattern: A pattern in the manner of the shell (``*``, ``?``, ``[...]``), or a list of them, as text, bytes or
            ``os.PathLike``.
        name: Accepted for TensorFlow's signature.

    Returns:
        A source of arrays of ``bytes`` objects with one dimension, sorted; its arrays are the caller's own.

    Raises:
        TypeError: ``pattern`` is no text, bytes or ``os.PathLike``, nor a list of these.

    Follows: ``tf.compat.v1.train.match_filenames_once``, whose variable must be initialized first.
    """
    return Source(_Matches(pattern), "string", [(None,)])
