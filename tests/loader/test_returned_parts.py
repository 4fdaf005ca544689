"""`Statistics.parts` and the states' ``parts``: the samples of each part of a mixture that this rank has returned."""

from collections import Counter

import mpqueue
from mpqueue import Dataset


def keep(_):
    return True


PARTS = {"web": Dataset.range(50), "code": Dataset.range(1000, 1090)}


def test_parts_of_several_mixes_name_the_stage():
    inner = Dataset.mix({"web": PARTS["web"].filter(keep), "code": PARTS["code"]})
    with mpqueue.Loader(Dataset.mix([inner, PARTS["web"]], [2, 1]).batch(8), workers=0, seed=1, lanes=2) as loader:
        found = Counter(sample for _ in loader for sample in loader.last.samples)
        parts = loader.statistics().parts
    assert list(parts) == ["3: web", "3: code", "5: 0", "5: 1"]
    assert parts["5: 0"] + parts["5: 1"] == found.total()
    assert parts["3: web"] + parts["3: code"] == parts["5: 0"]
    assert parts["3: web"] == sum(count for sample, count in found.items() if sample[:2] == (0, "web"))
