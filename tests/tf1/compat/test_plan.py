"""Plans of operations without effect: required operations run once, after their dependencies, and no others run."""

from mpqueue.tf1.compat.graph import plan
from mpqueue.tf1.compat.graph.plan import Plan


class FakeTensor:
    def __init__(self, op):
        self.op = op


class FakeOperation:
    control_inputs, blocking, bound = (), False, False

    def __init__(self, name, inputs=()):
        self.name, self.inputs, self.outputs = name, inputs, [FakeTensor(self)]


def test_a_long_pipeline_is_planned_without_recursion(monkeypatch):
    monkeypatch.setattr(plan, "Tensor", FakeTensor)
    op = FakeOperation("0")
    for number in range(1, 5000):
        op = FakeOperation(str(number), op.outputs)
    assert [step.op.name for step in Plan([op], []).steps] == list(map(str, range(5000)))
