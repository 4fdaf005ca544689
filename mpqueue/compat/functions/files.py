"""Whole files, and the names of files, as nodes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mpqueue.compat.graph.convert import convert_to_tensor
from mpqueue.compat.graph.make import custom
from mpqueue.compat.graph.nodes import Tensor
from mpqueue.compat.ops import dtypes
from mpqueue.compat.ops.dims import merged
from mpqueue.readers import files


def read_file(filename: Any, name: str | None = None) -> Tensor:
    """All that is in a file, a scalar text.

    Args:
        filename: A scalar text.
        name: Name of the node.

    Raises:
        ValueError: ``filename`` is no scalar.

    While running, `NotFoundError` and what else the system says.

    Follows: ``tf.read_file``.
    """
    wanted = convert_to_tensor(filename, dtypes.string, "filename")
    merged(wanted.known_dims, ())

    def kernel(_run: Any, values: list[np.ndarray]) -> Sequence[np.ndarray]:
        return [np.array(files.read_file(values[0].item()), object)]

    return custom("ReadFile", [wanted], [(dtypes.string, ())], kernel, name=name).outputs[0]


def matching_files(pattern: Any, name: str | None = None) -> Tensor:
    """The names of the files that match a pattern, or several, sorted; a vector of texts.

    Args:
        pattern: A text, or a vector of them; see `mpqueue.matching_files`.
        name: Name of the node.

    Raises:
        ValueError: ``pattern`` has two or more axes.

    Follows: ``tf.matching_files``.
    """
    wanted = convert_to_tensor(pattern, dtypes.string, "pattern")
    if wanted.ndim is not None and wanted.ndim > 1:
        raise ValueError(f"pattern must be one text or a vector of them, got shape {wanted.shape}")

    def kernel(_run: Any, values: list[np.ndarray]) -> Sequence[np.ndarray]:
        return [files.matching_files(values[0])]

    return custom("MatchingFiles", [wanted], [(dtypes.string, (None,))], kernel, name=name).outputs[0]
