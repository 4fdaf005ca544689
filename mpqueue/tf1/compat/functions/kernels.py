"""Kernels: of functions of values alone, and of those that use something which each session has for itself."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mpqueue.tf1.compat.graph import Operation, Running, Tensor, custom
from mpqueue.tf1.compat.graph.make import array_of
from mpqueue.tf1.compat.graph.nodes import Kernel
from mpqueue.tf1.compat.ops.dims import Dims
from mpqueue.tf1.compat.ops.dtypes import DType


def of_values(compute: Callable[..., Any]) -> Kernel:
    """The kernel that calls a function with the values of the inputs; it returns an output, several, or None."""

    def kernel(_run: Running, values: list[np.ndarray]) -> Sequence[np.ndarray]:
        result = compute(*values)
        if result is None:
            return ()
        return [array_of(each) for each in (result if isinstance(result, list | tuple) else [result])]

    return kernel


def once(tensors: Sequence[Tensor], function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the values of tensors that is called only once where these are constants, and not fed.

    It is called in the run, so that what it refuses is an error of the run.
    """
    constants = [each.known_entries() if each.op.type == "Const" else None for each in tensors]
    found: list[Any] = []

    def result(*values: np.ndarray) -> Any:
        # The very arrays: what is fed in place of a constant is another one, whatever it holds.
        if any(value is not constant for value, constant in zip(values, constants, strict=True)):
            return function(*values)
        if not found:
            found.append(function(*values))
        return found[0]

    return result


def with_own(
    kind: str,
    inputs: Sequence[Tensor],
    outputs: Sequence[tuple[DType, Dims]],
    make: Callable[[], Any],
    compute: Callable[..., Any],
    **options: Any,
) -> Operation:
    """A node with something of its own in each session.

    Args:
        kind: As for `custom`, and so are ``inputs``, ``outputs`` and the options.
        make: Makes the thing when it is first needed.
        compute: Takes it, and the values of the inputs; see `of_values`.
    """
    computed = of_values(compute)

    def kernel(run: Running, values: list[np.ndarray]) -> Sequence[np.ndarray]:
        return computed(run, [run.session.resource(made, make), *values])

    made = custom(kind, inputs, outputs, kernel, **options)
    return made
