"""Plans: the order of operations and the slots of their results, computed once per set of fetches and feeds.

A plan assigns each required tensor an index in one list, the *slots* of a run. It lists the operations such that each
follows the operations it depends on. A fed tensor has no dependencies: the operations that would compute it are left
out, unless another tensor requires them.
"""

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Final, NamedTuple

from mpqueue.tf1.compat.graph.nodes import Operation, Tensor
from mpqueue.tf1.compat.ops import dtypes

_FILLING: Final = ("QueueEnqueue", "QueueClose")  # beginnings of the types of operations that free a waiting dequeue


class Step(NamedTuple):
    """One operation of a plan."""

    op: Operation
    inputs: tuple[int, ...]  # slots of the inputs
    outputs: tuple[int | None, ...]  # slots of the outputs, None for a fed output
    needs: frozenset[int]  # steps that must run before this one


class Plan:
    """The operations to run for a set of targets.

    Args:
        targets: Tensors to compute and operations to run.
        fed: Tensors with values from the caller.
        done: Operations that have run before, as in a nested plan.

    Raises:
        ValueError: Two operations can wait for each other at a queue.
    """

    def __init__(
        self, targets: Sequence[Tensor | Operation], fed: Iterable[Tensor], done: Iterable[Operation] = ()
    ) -> None:
        self.slot_of: dict[Tensor, int] = {}
        self.fed = tuple(dict.fromkeys(fed))
        self._given: frozenset[Tensor | Operation] = frozenset([*self.fed, *done])
        # Every fed tensor gets a slot, even if no step reads it: a run stores all feeds before the first step.
        for tensor in self.fed:
            self._slot(tensor)
        order = self._ordered(targets)
        self.steps = self._steps(order)
        self.is_blocking = any(op.blocking for op in order)
        self.is_bound = any(op.bound for op in order)
        _check_waits(self.steps)

    def _slot(self, tensor: Tensor) -> int:
        return self.slot_of.setdefault(tensor, len(self.slot_of))

    def _needed_by(self, op: Operation) -> list[Operation]:
        given = self._given
        # An operation is not run if all its outputs are fed. One without outputs cannot be fed and does run.
        before = [each for each in op.control_inputs if not (each.outputs and given.issuperset(each.outputs))]
        return [each.op for each in op.inputs if each not in given] + [each for each in before if each not in given]

    def _ordered(self, targets: Sequence[Tensor | Operation]) -> list[Operation]:
        """Order the operations depth first, with an explicit stack: pipelines can exceed Python's recursion limit."""
        done: dict[Operation, bool] = {}
        order: list[Operation] = []
        # Reversed here and below, so that the first target is on top of the stack and runs first.
        stack = [
            each.op if isinstance(each, Tensor) else each
            for each in reversed(targets)
            if not (isinstance(each, Tensor) and each in self._given)
        ]
        while stack:
            op = stack[-1]
            if op in done:
                stack.pop()
                # On the second visit, all dependencies are done. An operation pushed twice is only added once.
                if not done[op]:
                    done[op] = True
                    order.append(op)
            else:
                done[op] = False
                # Every operation left out is done: an open one would mean a cycle, but nodes only take older nodes.
                stack += [each for each in reversed(self._needed_by(op)) if each not in done]
        return order

    def _steps(self, order: list[Operation]) -> list[Step]:
        place = {op: number for number, op in enumerate(order)}
        needs = [frozenset(place[each] for each in self._needed_by(op)) for op in order]
        return [
            Step(
                op,
                tuple(self._slot(each) for each in op.inputs),
                tuple(None if each in self._given else self._slot(each) for each in op.outputs),
                needs[number],
            )
            for number, op in enumerate(order)
        ]


def _check_waits(steps: Sequence[Step]) -> None:
    """Raise a `ValueError` if one operation fills a queue and another takes from it, in an order that is not given."""
    queues: dict[Tensor, tuple[list[int], list[int]]] = {}
    for number, step in enumerate(steps):
        for tensor in step.op.inputs if step.op.blocking else ():
            if tensor.dtype is dtypes.resource:
                queues.setdefault(tensor, ([], []))[step.op.type.startswith(_FILLING)].append(number)
    for queue, (taking, filling) in queues.items():
        for one, other in product(taking, filling):
            first, last = sorted((one, other))
            if not _depends(steps, last, first):
                raise ValueError(
                    f"{steps[first].op.name} and {steps[last].op.name} can wait for each other at {queue.op.name}: run "
                    "them in two calls of Session.run, or let one depend on the other with tf.control_dependencies"
                )


def _depends(steps: Sequence[Step], last: int, first: int) -> bool:
    seen, stack = {last}, [last]
    while stack:
        new = {each for each in steps[stack.pop()].needs if each >= first} - seen
        seen |= new
        stack += new
    return first in seen
