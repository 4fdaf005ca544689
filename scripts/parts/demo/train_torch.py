"""Train on the same photographs with a small torch model, using torch's DataLoader and mpqueue's alternately.

Both train the same model with the same order of samples. The epochs alternate, so that other load on the machine
affects both.
"""

import time
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils import data

import mpqueue.torch
from parts.demo.options import options
from parts.machine import num_cpus
from parts.photographs.cut import Files
from parts.photographs.dataset import BATCH, photo_files
from parts.photographs.decode import read_batch


class Photos(data.Dataset):
    """Photographs, one by one: float32 images of shape (224, 224, 3), and their classes."""

    def __init__(self, files: Files, *, augment: bool) -> None:
        self.paths, self.labels, self.augment = files.paths, files.labels, augment

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return read_batch(self.paths[index : index + 1], augment=self.augment)[0], int(self.labels[index])


class Epoch(NamedTuple):
    """The measurements of one epoch: images per second, seconds to the first batch, the trainer's CPU seconds."""

    rate: float
    first_s: float
    cpu_s: float


def small_model(num_classes: int) -> torch.nn.Module:
    """Return a model of a convolution over patches, another over their neighbours, pooling, and a linear layer."""
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 32, 8, stride=8),
        torch.nn.ReLU(),
        torch.nn.Conv2d(32, 64, 3, stride=2),
        torch.nn.ReLU(),
        torch.nn.AdaptiveMaxPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(64, num_classes),
    )


def train(loader: data.DataLoader, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Epoch:
    """Train for one epoch."""
    began, cpu, num_images, first_s = time.perf_counter(), time.process_time(), 0, 0.0
    for images, labels in loader:
        first_s = first_s or time.perf_counter() - began
        loss = torch.nn.functional.cross_entropy(model(images.permute(0, 3, 1, 2)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        num_images += len(labels)
    return Epoch(num_images / (time.perf_counter() - began), first_s, time.process_time() - cpu)


def accuracy_of(loader: data.DataLoader, model: torch.nn.Module) -> float:
    """Return the share of images that are classified correctly."""
    with torch.no_grad():
        hits = [(model(images.permute(0, 3, 1, 2)).argmax(1) == labels).float() for images, labels in loader]
    return float(torch.cat(hits).mean())


def run(name: str, make: Any, chosen: Any, measured: dict[str, list[Epoch]]) -> Any:
    """Train with one kind of loader, one epoch per value requested; yield the accuracy at the end."""
    train_files, held_out_files = photo_files()
    torch.manual_seed(chosen.seed)
    model = small_model(len(train_files.names))
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    generator = torch.Generator().manual_seed(chosen.seed)
    loader = make(
        Photos(train_files, augment=True), batch_size=BATCH, shuffle=True, generator=generator, drop_last=True,
        num_workers=chosen.workers,
    )  # fmt: skip
    for _ in range(chosen.epochs):
        measured[name].append(train(loader, model, optimizer))
        yield None
    yield accuracy_of(make(Photos(held_out_files, augment=False), batch_size=BATCH, num_workers=1), model)


def main() -> None:
    """Train with both loaders, and print a table."""
    chosen = options()
    files, _ = photo_files()
    torch.set_num_threads(1)
    print(f"{len(files.paths):,} images of {len(files.names)} photographs, {chosen.workers} workers, {num_cpus()} CPUs")
    kinds = {"torch": data.DataLoader, "mpqueue": mpqueue.torch.DataLoader}
    measured: dict[str, list[Epoch]] = {name: [] for name in kinds}
    runs = {name: run(name, make, chosen, measured) for name, make in kinds.items()}
    for number in range(chosen.epochs):
        for name, epochs in runs.items():
            next(epochs)
            latest = measured[name][-1]
            print(f"epoch {number + 1}, {name:7}: {latest.rate:6,.0f} images/s", flush=True)
    accuracy = {name: next(epochs) for name, epochs in runs.items()}
    print(f"\n{'':8} {'images/s':>9} {'first batch':>12} {'CPU of the trainer':>19} {'accuracy':>9}")
    for name, epochs in measured.items():
        rate, first_s, cpu_s = (float(np.median(values)) for values in zip(*epochs, strict=True))
        print(f"{name:8} {rate:9,.0f} {first_s:10.2f} s {cpu_s:17.2f} s {accuracy[name]:9.1%}")
    print(f"\nmedians of {chosen.epochs} epochs; chance is {1 / len(files.names):.1%}")


if __name__ == "__main__":
    main()
