"""`Statistics.parts` and the states' ``parts``: the samples of each part of a mixture that this rank has returned."""

import itertools
from collections import Counter

import pytest

import mpqueue
from mpqueue import Dataset

pytestmark = pytest.mark.sample(2)


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


@pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "index"])
@pytest.mark.parametrize("workers", [0, 2])
def test_parts_of_a_mixture_of_batches_are_samples(workers, is_stream):
    batches = {name: part.filter(keep).batch(4) if is_stream else part.batch(4) for name, part in PARTS.items()}
    mixed = Dataset.mix(batches, {"web": 2, "code": 1})

    def counted(loader):
        samples = (sample for batch in itertools.islice(loader, 5) for sample in batch.tolist())
        return Counter({"web": 0, "code": 0} | Counter("web" if sample < 1000 else "code" for sample in samples))

    with mpqueue.Loader(mixed, workers=workers, seed=1) as loader:
        found = counted(loader)
        state = loader.state_dict()
        assert loader.statistics().parts == state["parts"] == found
    with mpqueue.Loader(mixed, workers=0) as loader:
        loader.load_state_dict(state)
        later = counted(loader)
        assert loader.statistics().parts == later
        assert loader.state_dict()["parts"] == found + later
