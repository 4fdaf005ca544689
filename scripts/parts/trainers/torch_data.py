"""The samples and the model of the programs that train with torch.

Samples draw random numbers in the worker, like augmentations, and the model draws some in the trainer. So a resume is
exact only if both random states are restored.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils import data

from parts.trainers.recording import EPOCHS, SAMPLES


def sample(number: int) -> dict[str, torch.Tensor]:
    """Return one augmented sample."""
    x = torch.tensor([number / SAMPLES, 1 - number / SAMPLES, number % 7 / 7, 1.0])
    return {"x": x + 0.01 * torch.randn(4), "labels": 2 * x.sum().reshape(1), "number": torch.tensor(number)}


class Numbers(data.Dataset):
    """The samples by index."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return sample(int(index))


class Lines(data.IterableDataset):
    """The samples as a stream that its workers share, with a state."""

    def __init__(self) -> None:
        self.taken = 0

    def __len__(self) -> int:
        return SAMPLES

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        info = data.get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        for number in list(range(first, SAMPLES, step))[self.taken :]:
            self.taken += 1
            yield sample(number)
        self.taken = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the position of the iterator."""
        return {"taken": self.taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Make the next iterator start at this position."""
        self.taken = state["taken"]


class Model(torch.nn.Module):
    """A small model with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Dropout(0.1), torch.nn.Linear(8, 1)
        )

    def forward(self, x: torch.Tensor, labels: torch.Tensor, number: Any = None) -> dict[str, torch.Tensor]:
        """Return the loss of a batch."""
        return {"loss": (self.layers(x) - labels).square().mean()}


def prepare(*, installs: bool = False) -> None:
    """Make torch deterministic, and let its loaders be mpqueue's if wanted."""
    torch.use_deterministic_algorithms(mode=True)
    torch.set_num_threads(1)
    if installs:
        import mpqueue.torch

        mpqueue.torch.install()


def hugging_face_stream() -> Any:
    """Return a Hugging Face stream of the same samples in four shards, with all epochs in one.

    The stream has no length, so the `Trainer` would not know the current epoch, and would count from 0 again.
    """
    import datasets

    numbers = datasets.Dataset.from_dict({"number": list(range(SAMPLES))})
    return numbers.to_iterable_dataset(num_shards=4).map(lambda row: sample(row["number"])).repeat(EPOCHS)
