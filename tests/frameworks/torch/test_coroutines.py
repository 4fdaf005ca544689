"""Map-style datasets with coroutines in `mpqueue.torch.DataLoader`."""

import pytest
from helpers.computed_source import Computed
from helpers.coroutines import end_out_of_order
from helpers.torch_batches import continued

torch = pytest.importorskip("torch")
mpqueue_torch = pytest.importorskip("mpqueue.torch")


class Samples(torch.utils.data.Dataset):
    """Samples that end in another order than they begin."""

    def __len__(self):
        return 21

    async def __getitem__(self, index):
        await end_out_of_order(index)
        return torch.tensor([index, 2 * index])


class AtOnce(Samples):
    async def __getitems__(self, indices):
        return [await self[index] for index in indices]


PLAIN = Computed(lambda index: torch.tensor([index, 2 * index]), 21)


def batches_of(loader):
    return [batch.tolist() for _ in range(2) for batch in loader]


@pytest.mark.parametrize("dataset", [Samples, AtOnce])
@pytest.mark.parametrize(
    "options",
    [{"batch_size": 4, "shuffle": True}, {"batch_size": None}, {"batch_sampler": [[3, 1], [0], [7, 5, 6]]}],
)
@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_equal_those_of_a_plain_dataset(dataset, options, num_workers):
    def loaded(dataset, **more):
        generator = torch.Generator().manual_seed(5)
        return mpqueue_torch.DataLoader(dataset, num_workers=num_workers, generator=generator, **options, **more)

    expected = batches_of(loaded(PLAIN))
    assert batches_of(loaded(dataset())) == expected
    assert batches_of(loaded(dataset(), concurrency=3)) == expected


def test_state_resumes_in_the_middle():
    loader = mpqueue_torch.DataLoader(Samples(), 4, num_workers=2)
    batches = iter(loader)
    taken = [next(batches).tolist() for _ in range(2)]
    state = loader.state_dict()
    del batches
    again = continued(mpqueue_torch.DataLoader(Samples(), 4, num_workers=1), state)
    taken += [batch.tolist() for batch in again]
    assert taken == [batch.tolist() for batch in mpqueue_torch.DataLoader(PLAIN, 4)]


@pytest.mark.parametrize(
    ("dataset", "options", "text"),
    [
        (Samples(), {"threads": 2, "num_workers": 1}, "concurrency=n"),
        (PLAIN, {"concurrency": 2, "num_workers": 1}, "async def __getitem__"),
        (Samples(), {"concurrency": 0}, "1 or more"),
    ],
)
def test_invalid_combinations_are_refused(dataset, options, text):
    with pytest.raises(ValueError, match=text):
        mpqueue_torch.DataLoader(dataset, 4, **options)
