"""The measurements with targets, which a quick run makes, and those that a run repeats within its time limit."""

from parts.benchmark.files import PER_CPU
from parts.benchmark.measure import Measurement
from parts.benchmark.records import RECORDS, TENSORFLOW
from parts.benchmark.report import RATES, TARGETS
from parts.pictures import front_page

_ALWAYS = ("latency", "starts", "memory")
# Targets in `goals` other than ratios of rates.
_OF_GOALS = {("small", "mpqueue"), ("small", "slots"), ("decode", "mpqueue"), ("ray first batch", "mpqueue")}
_OF_GOALS.add(("service attach", "mpqueue"))


def has_target(one: Measurement) -> bool:
    """Return whether a target needs the measurement, except for the cost of monitoring, which takes minutes."""
    name = one.name
    if one.what == "records" and name == TENSORFLOW:
        return any(target.workload == one.workload for target in TARGETS if target.workload in RECORDS)
    return one.what in _ALWAYS or (one.workload, name) in _NEEDED


def is_repeated(one: Measurement) -> bool:
    """Return whether a target or the front page needs the measurement, so that it should have several rounds."""
    is_on_front_page = one.what in ("feed", "samples") and one.name in front_page.LOADERS
    return has_target(one) or (is_on_front_page and one.workload in front_page.QUESTIONS)


_NEEDED = _OF_GOALS | RATES.keys()
for _target in TARGETS:
    _workload = _target.workload.removesuffix(PER_CPU)
    _NEEDED |= {(_workload, _target.ours), (_workload, _target.against)}
