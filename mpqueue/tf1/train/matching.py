"""match_filenames_once: file names, matched once."""

# ruff: noqa: ARG001 - `name` is part of TensorFlow's signature

from typing import Any

from mpqueue.tf1.queues.source import Source
from mpqueue.tf1.readers.files import matching_files
from mpqueue.tf1.train.local_variables import LocalVariable, add_local_variable


class _Matches(LocalVariable):
    """The names that matched a pattern at initialization."""

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
    """Return a `Source` that always returns the file names that match a pattern at the time of this call.

    `local_variables_initializer` matches the pattern again. `string_input_producer` accepts the source instead of a
    list of names.

    Args:
        pattern: A shell-style pattern (``*``, ``?``, ``[...]``), or a list of patterns, as ``str``, ``bytes`` or
            ``os.PathLike``.
        name: Accepted for compatibility with TensorFlow.

    Returns:
        A source of one-dimensional arrays of ``bytes`` objects, sorted. The arrays belong to the caller.

    Raises:
        TypeError: ``pattern`` is not ``str``, ``bytes`` or ``os.PathLike``, or a list of these.

    Follows: ``tf.compat.v1.train.match_filenames_once``, which returns a variable that must be initialized first.
    """
    return Source(_Matches(pattern), "string", [(None,)])
