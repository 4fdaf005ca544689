"""The measurements that a wanted figure needs: what a quick run makes, and what a run repeats while its time lasts."""

from parts.benchmark.files import PER_CPU
from parts.benchmark.measure import Measurement
from parts.benchmark.records import RECORDS, TENSORFLOW
from parts.benchmark.report import RATES, TARGETS

_ALWAYS = ("latency", "starts", "memory")
# What `goals` looks at beside ratios of rates.
_OF_GOALS = {("small", "mpqueue"), ("small", "slots"), ("decode", "mpqueue"), ("ray first batch", "mpqueue")}
_OF_GOALS |= {(f"service {name}", "mpqueue") for name in ("attach", "idle")}


def is_wanted(one: Measurement) -> bool:
    """Return True if a figure to be reached comes of it; not so the cost of being seen, which takes minutes."""
    name = one.name
    if one.what == "records" and name == TENSORFLOW:
        return any(target.workload == one.workload for target in TARGETS if target.workload in RECORDS)
    return one.what in _ALWAYS or (one.workload, name) in _NEEDED


_NEEDED = _OF_GOALS | RATES.keys()
for _target in TARGETS:
    _workload = _target.workload.removesuffix(PER_CPU)
    _NEEDED |= {(_workload, _target.ours), (_workload, _target.against)}
