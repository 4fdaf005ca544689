"""Plans of operations without effect: required operations run once, after their dependencies, and no others run."""

import pytest

from mpqueue.tf1.compat.graph import plan
from mpqueue.tf1.compat.graph.plan import Plan


class FakeTensor:
    def __init__(self, op):
        self.op = op


class FakeOperation:
    """Create an operation with the given inputs and number of outputs."""

    def __init__(self, name, inputs=(), num_outputs=1, control=(), blocking=False, bound=False):
        self.name, self.inputs, self.control_inputs = name, list(inputs), list(control)
        self.outputs = [FakeTensor(self) for _ in range(num_outputs)]
        self.blocking, self.bound = blocking, bound

    def __repr__(self):
        return self.name


@pytest.fixture(autouse=True)
def _fake_tensors(monkeypatch):
    monkeypatch.setattr(plan, "Tensor", FakeTensor)


def names(made):
    return [step.op.name for step in made.steps]


def test_a_long_pipeline_is_planned_without_recursion():
    op = FakeOperation("0")
    for number in range(1, 5000):
        op = FakeOperation(str(number), op.outputs)
    assert names(Plan([op], [])) == list(map(str, range(5000)))
