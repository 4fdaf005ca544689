"""Parts of a graph that run under a condition.

While a function of `cond` is called, its `Branch` is entered, and every new node records the branch. The node that
merges the two branches depends on the condition and on all tensors that the branches use from outside. These tensors
are therefore always computed, as in TensorFlow. When the merging node runs, it executes the plan of one branch within
the same run.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from mpqueue.tf1.compat.graph.make import custom
from mpqueue.tf1.compat.graph.nodes import Graph, Operation, Tensor
from mpqueue.tf1.compat.graph.plan import Plan
from mpqueue.tf1.compat.graph.records import is_handle
from mpqueue.tf1.values.shapes import common_shape


class Branch:
    """One of the two parts of a `cond`.

    Args:
        graph: The graph of the branch.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.outer: Branch | None = graph.scopes.branch

    def entered(self) -> AbstractContextManager[None]:
        """Return a context that makes new nodes part of this branch."""
        return self._graph.changed(branch=self, control_inputs=())

    def has(self, op: Operation) -> bool:
        """Return whether an operation belongs to this branch or to a nested one."""
        branch = op.branch
        while branch is not None and branch is not self:
            branch = branch.outer
        return branch is self

    def taken_from_outside(self, outputs: Iterable[Tensor]) -> tuple[list[Tensor], list[Operation]]:
        """Return the tensors from outside the branch that ``outputs`` depend on, and the operations to run before."""
        outside: dict[Tensor | Operation, None] = {}
        seen: set[Operation] = set()
        stack: list[Tensor | Operation] = list(outputs)
        while stack:
            one = stack.pop()
            op = one.op if isinstance(one, Tensor) else one
            if not self.has(op):
                outside[one] = None
            elif op not in seen:
                seen.add(op)
                stack += [*op.inputs, *op.control_inputs]
        tensors = [each for each in outside if isinstance(each, Tensor)]
        return tensors, [each for each in outside if isinstance(each, Operation)]


def merged_node(chosen: Tensor, branches: Sequence[Branch], outputs: Sequence[Sequence[Tensor]]) -> Operation:
    """Create the node that returns the outputs of one of two branches.

    Args:
        chosen: A scalar bool.
        branches: The branch for True, the branch for False.
        outputs: Their outputs, of the same types.
    """
    outside = [branch.taken_from_outside(made) for branch, made in zip(branches, outputs, strict=True)]
    # Plan once, while the graph is built, so that a run only has to choose a plan.
    plans = [Plan(made, *needed) for made, needed in zip(outputs, outside, strict=True)]
    inputs = list(dict.fromkeys([chosen, *outside[0][0], *outside[1][0]]))

    def kernel(run: Any, values: list[np.ndarray]) -> list[np.ndarray]:
        which = 0 if values[0] else 1
        slots = run.execute(plans[which], dict(zip(inputs, values, strict=True)))
        return [slots[plans[which].slot_of[each]] for each in outputs[which]]

    pairs = zip(*outputs, strict=True)
    kinds = [(one.dtype.base_dtype, common_shape(one.known_dims, two.known_dims)) for one, two in pairs]
    blocking = any(plan.is_blocking for plan in plans)
    # State made in a branch, including queues and readers, is session state that nodes outside cannot see.
    bound = any(plan.is_bound or any(is_handle(step.op) for step in plan.steps) for plan in plans)
    # Before the node, and so once in a run, whichever branch is chosen.
    with chosen.graph.control_dependencies([*outside[0][1], *outside[1][1]]):
        return custom("Merge", inputs, kinds, kernel, name="Merge", blocking=blocking, bound=bound)
