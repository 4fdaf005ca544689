"""The checks of ``scripts/pinned``. Each returns a measurement, and whether it passes."""

import time
from typing import NamedTuple

import torch

import mpqueue.torch
from mpqueue.frameworks.torch.prefetching import DevicePrefetcher
from parts.pinned.datasets import Numbered

DEVICE = "cuda"
BATCH = 64
_NUM_TIMED = 50
_NUM_PREFETCHED = 1000
_LEAST_RATE = 0.95  # of the rate of a tensor that torch has pinned


class Finding(NamedTuple):
    """The result of a check."""

    passes: bool
    text: str


def is_pinned() -> Finding:
    """Check that every tensor in a slot is pinned from the first to the last byte."""
    loader = mpqueue.torch.DataLoader(Numbered(BATCH * 20), batch_size=BATCH, num_workers=2, pin_memory=True)
    pinned = [images.is_pinned() and images[-1, -1, -1].is_pinned() for images, _ in loader]
    return Finding(all(pinned) and len(pinned) == 20, f"{sum(pinned)} of {len(pinned)} batches are pinned")


def transfer_rate() -> Finding:
    """Check that a batch is copied to the GPU as fast as a tensor that torch has pinned."""
    loader = mpqueue.torch.DataLoader(Numbered(BATCH * 4), batch_size=BATCH, num_workers=1, pin_memory=True)
    images, _ = next(iter(loader))
    ours, torchs = images, torch.empty_like(images, pin_memory=True)
    target = torch.empty_like(images, device=DEVICE)
    rates = [max(_rate(source, target) for _ in range(5)) for source in (ours, torchs)]
    share = rates[0] / rates[1]
    text = f"{rates[0]:.1f} GB/s from a slot, {rates[1]:.1f} from memory that torch has pinned: {share:.2f} times"
    return Finding(share >= _LEAST_RATE, text)


def _rate(source: torch.Tensor, target: torch.Tensor) -> float:
    """Return the rate in gigabytes per second."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(_NUM_TIMED):
        target.copy_(source, non_blocking=True)
    end.record()
    torch.cuda.synchronize()
    return _NUM_TIMED * source.nbytes / begin.elapsed_time(end) / 1e6


def overlapped_copies(num_copies: int) -> Finding:
    """Check that no byte changes while it is being copied: a slot is only reused after its last copy."""
    loader = mpqueue.torch.DataLoader(
        Numbered(8 * num_copies, 64), batch_size=8, num_workers=4, pin_memory=True, prefetch_factor=4
    )
    side = torch.cuda.Stream()
    busy = torch.randn(2048, 2048, device=DEVICE)
    wrong = torch.zeros((), dtype=torch.int64, device=DEVICE)
    done = 0
    for number, (images, labels) in enumerate(loader):
        stream = side if number % 2 else torch.cuda.current_stream()
        with torch.cuda.stream(stream):
            if number % 8 == 0:
                busy = busy @ busy * 1e-3  # delays the copies in their stream until after their tensors are deleted
            on_gpu, expected = images.to(DEVICE, non_blocking=True), labels.to(DEVICE, non_blocking=True)
            del images, labels
            done += 1
            wrong += _num_wrong(on_gpu, expected)
    torch.cuda.synchronize()
    passes = int(wrong) == 0 and done == num_copies
    return Finding(passes, f"{int(wrong)} wrong bytes in {done:,} overlapped copies")


def prefetched() -> Finding:
    """Check that `prefetch` returns all batches in order and unchanged, also after a resume within an epoch."""
    wrong = torch.zeros((), dtype=torch.int64, device=DEVICE)
    busy = torch.randn(2048, 2048, device=DEVICE)
    first_labels = []
    for depth in (1, 2, 5):
        begun, resumed = _prefetching(depth), _prefetching(depth)
        batches = iter(begun)
        for number in range(_NUM_PREFETCHED):
            if number % 8 == 0:
                busy = busy @ busy * 1e-3  # so that the training's stream is behind, and batches are deleted before use
            if number == _NUM_PREFETCHED // 2:
                resumed.load_state_dict(begun.state_dict())
                batches = iter(resumed)
            images, labels = next(batches)
            wrong += _num_wrong(images, labels)
            first_labels.append(labels[0])
    in_order = torch.stack(first_labels).tolist() == 3 * list(range(0, 8 * _NUM_PREFETCHED, 8))
    text = f"{int(wrong)} wrong bytes, {'in' if in_order else 'NOT in'} order, also after a resume"
    return Finding(in_order and int(wrong) == 0, text)


def _num_wrong(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (images != (labels % 251).to(torch.uint8)[:, None, None, None]).sum()


def _prefetching(depth: int) -> DevicePrefetcher:
    items = Numbered(8 * _NUM_PREFETCHED, 64)
    loader = mpqueue.torch.DataLoader(items, batch_size=8, num_workers=4, pin_memory=True)
    return mpqueue.torch.prefetch(loader, DEVICE, depth)


def running_ahead() -> Finding:
    """Check that a program which is far ahead of its GPU waits for it, and gets no private copies of batches."""
    loader = mpqueue.torch.DataLoader(Numbered(BATCH * 100), batch_size=BATCH, num_workers=4, pin_memory=True)
    weight = torch.randn(3 * 224 * 224, 8192, device=DEVICE)
    for images, _ in loader:
        images.to(DEVICE, non_blocking=True).flatten(1).float() @ weight
    torch.cuda.synchronize()
    copies = loader.statistics().copies
    return Finding(copies == 0, f"{copies} of 100 batches are private copies")


def real_loop() -> Finding:
    """Check that a loop that copies and computes is faster than with torch's loader and its pin_memory=True."""
    weight = torch.randn(3 * 224 * 224, 64, device=DEVICE)
    options = {"batch_size": BATCH, "num_workers": 4, "pin_memory": True}
    ours, torchs = (
        max(_loop_rate(make(Numbered(BATCH * 150), **options), weight) for _ in range(3))
        for make in (mpqueue.torch.DataLoader, torch.utils.data.DataLoader)
    )
    return Finding(ours > torchs, f"{ours:,.0f} images/s, with torch's loader {torchs:,.0f}")


def _loop_rate(loader: torch.utils.data.DataLoader, weight: torch.Tensor) -> float:
    batches = iter(loader)
    next(batches)
    began, count = time.perf_counter(), 0
    for images, _ in batches:
        flat = images.to(DEVICE, non_blocking=True).flatten(1).float()
        (flat @ weight).sum()
        count += len(flat)
    torch.cuda.synchronize()
    return count / (time.perf_counter() - began)
