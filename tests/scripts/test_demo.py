"""``scripts/demo``: its trainings run on two small pictures, and give equal results with a service and without."""

import json
import sys
from functools import partial

import pytest
from helpers import small_demo

# Without the comparison of loaders. The last line is a digest of the trained model.
SMALL_DEMO = """
compare.compare = lambda *_: {"no workers": 1.0}
model = runpy.run_module("parts.demo.train_numpy", run_name="__main__")["model"]
print(hashlib.sha256(b"".join(weight.tobytes() for weight in model.weights)).hexdigest())
"""
# The last line has the losses and accuracies with and without the service, and the number of computed batches.
SMALL_SERVICE = """
done = runpy.run_module("parts.demo.train_service", run_name="__main__")
trained = [[(one.loss, one.accuracy) for one in done[how]] for how in ("served", "alone")]
print(json.dumps([*trained, done["num_computed"]]))
"""


@pytest.fixture
def run(tmp_path):
    return partial(small_demo.run, tmp_path)


def test_a_seed_trains_the_same_model_at_each_run(run):
    first, again = (run(SMALL_DEMO, "--epochs", "1").splitlines() for _ in range(2))
    assert any(line.startswith("accuracy") for line in first)
    assert first[-1] == again[-1]


@pytest.mark.skipif(sys.platform != "linux", reason="the service needs Linux")
def test_a_model_trains_equally_with_a_service_which_computes_each_batch_once(run):
    out = run(SMALL_SERVICE, "--epochs", "1", "--service")
    served, alone, num_computed = json.loads(out.splitlines()[-1])
    assert served == alone
    assert len({loss for loss, _ in served}) == 3  # each has its own learning rate
    assert num_computed == 4
    assert "times the images/s" in out
