"""Plans: the order of operations and the slots of their results, computed once per set of fetches and feeds.

A plan assigns each required tensor an index in one list, the *slots* of a run. It lists the operations such that each
follows the operations it depends on. A fed tensor has no dependencies: the operations that would compute it are left
out, unless another tensor requires them.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mpqueue.tf1.compat.graph.nodes import Operation, Tensor


class Step(NamedTuple):
    """One operation of a plan."""

    op: Operation
    inputs: tuple[int, ...]  # slots of the inputs
    outputs: tuple[int | None, ...]  # slots of the outputs, None for a fed output
    needs: frozenset[int]  # steps that must run before this one
    after: tuple[int, ...]  # steps that wait for this one


class Plan:
    """The operations to run for a set of targets.

    Args:
        targets: Tensors to compute and operations to run.
        fed: Tensors with values from the caller.
        done: Operations that have run before, as in a plan that is nested in another one.
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
        self.blocks_concurrently = _blocks_concurrently(self.steps)

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
        after: list[list[int]] = [[] for _ in order]
        for number, before in enumerate(needs):
            for each in before:
                after[each].append(number)
        return [
            Step(
                op,
                tuple(self._slot(each) for each in op.inputs),
                tuple(None if each in self._given else self._slot(each) for each in op.outputs),
                needs[number],
                tuple(after[number]),
            )
            for number, op in enumerate(order)
        ]


def _blocks_concurrently(steps: Sequence[Step]) -> bool:
    """Return whether two blocking operations are independent of each other, so that both can block at once."""
    needed: list[int] = []  # per step, the number of blocking steps that it depends on, if these form a chain
    count = 0
    for step in steps:
        needed.append(max((needed[each] for each in step.needs), default=0))
        if step.op.blocking:
            # An earlier blocking step is not a dependency of this one, so neither waits for the other.
            if needed[-1] < count:
                return True
            count += 1
            needed[-1] = count
    return False
