"""Kernels for functions of values, with or without state that each session holds separately."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mpqueue.tf1.compat.graph import Operation, Running, Tensor, custom
from mpqueue.tf1.compat.graph.make import array_of
from mpqueue.tf1.compat.graph.nodes import Kernel
from mpqueue.tf1.compat.ops.dims import Dims
from mpqueue.tf1.compat.ops.dtypes import DType


def of_values(compute: Callable[..., Any]) -> Kernel:
    """Return a kernel that calls a function with the values of the inputs; it returns one output, several, or None."""

    def kernel(_run: Running, values: list[np.ndarray]) -> Sequence[np.ndarray]:
        return _outputs(compute(*values))

    return kernel


def waiting(compute: Callable[..., Any]) -> Kernel:
    """Return a kernel as `of_values` does, of a function that may wait.

    Args:
        compute: Takes the seconds that are left of the run's time limit, or None, and the values of the inputs.
    """

    def kernel(run: Running, values: list[np.ndarray]) -> Sequence[np.ndarray]:
        return _outputs(compute(run.left_s(), *values))

    return kernel


def _outputs(result: Any) -> Sequence[np.ndarray]:
    if result is None:
        return ()
    return [array_of(each) for each in (result if isinstance(result, list | tuple) else [result])]


def once(tensors: Sequence[Tensor], function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that is evaluated only once if the tensors are constants and are not fed.

    It is evaluated during the run, so that its errors are errors of the run.
    """
    constants = [each.known_entries() if each.op.type == "Const" else None for each in tensors]
    results: list[Any] = []

    def result(*values: np.ndarray) -> Any:
        # Compare identity: a value fed in place of a constant is another array, even with equal contents.
        if any(value is not constant for value, constant in zip(values, constants, strict=True)):
            return function(*values)
        if not results:
            results.append(function(*values))
        return results[0]

    return result


def with_own(
    kind: str,
    inputs: Sequence[Tensor],
    outputs: Sequence[tuple[DType, Dims]],
    make: Callable[[], Any],
    compute: Callable[..., Any],
    **options: Any,
) -> Operation:
    """Create a node with a separate state object in each session.

    Args:
        kind: As for `custom`, like ``inputs``, ``outputs`` and the options.
        make: Creates the state object on first use.
        compute: Takes the state object and the values of the inputs; see `of_values`.
    """
    computed = of_values(compute)

    def kernel(run: Running, values: list[np.ndarray]) -> Sequence[np.ndarray]:
        return computed(run, [run.session.resource(made, make), *values])

    made = custom(kind, inputs, outputs, kernel, **options)
    return made
