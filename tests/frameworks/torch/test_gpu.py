"""Pinned slots and `mpqueue.torch.prefetch` on the GPU of this machine: ``pytest -m gpu tests/frameworks/torch``."""

import time

import numpy as np
import pytest
import torch

import mpqueue.torch

BATCH, SIDE = 64, 224
LEAST_RATE = 0.95  # of the rate of a tensor that torch has pinned

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU"),
]


class Numbered(torch.utils.data.Dataset):
    """Images. Every byte is the number of the item, modulo 251."""

    def __init__(self, num_items, side=SIDE):
        self.num_items, self.side = num_items, side

    def __len__(self):
        return self.num_items

    def __getitem__(self, index):
        return np.full((self.side, self.side, 3), index % 251, np.uint8), index


def loader_of(num_items, side=SIDE, make=mpqueue.torch.DataLoader, **options):
    return make(Numbered(num_items, side), **{"batch_size": BATCH, "num_workers": 4, "pin_memory": True, **options})


def num_wrong(images, labels):
    return (images != (labels % 251).to(torch.uint8)[:, None, None, None]).sum()


def test_each_tensor_in_a_slot_is_pinned_from_the_first_to_the_last_byte():
    batches = [images for images, _ in loader_of(BATCH * 20, num_workers=2)]
    assert [images.is_pinned() and images[-1, -1, -1].is_pinned() for images in batches] == [True] * 20


def rate_of(source, target):
    """Return the rate of copies in gigabytes per second."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(50):
        target.copy_(source, non_blocking=True)
    end.record()
    torch.cuda.synchronize()
    return 50 * source.nbytes / begin.elapsed_time(end) / 1e6


@pytest.mark.measures
def test_a_slot_is_copied_as_fast_as_memory_that_torch_has_pinned():
    images, _ = next(iter(loader_of(BATCH * 4, num_workers=1)))
    pinned, target = torch.empty_like(images, pin_memory=True), torch.empty_like(images, device="cuda")
    ours, torchs = (max(rate_of(source, target) for _ in range(5)) for source in (images, pinned))
    assert ours >= LEAST_RATE * torchs, f"{ours:.1f} GB/s, torch's {torchs:.1f}"


def test_no_byte_changes_while_it_is_copied():
    """A slot is used again only after its last copy."""
    num_copies, side = 2000, torch.cuda.Stream()
    busy = torch.randn(2048, 2048, device="cuda")
    wrong, done = torch.zeros((), dtype=torch.int64, device="cuda"), 0
    for index, (images, labels) in enumerate(loader_of(8 * num_copies, 64, batch_size=8, prefetch_factor=4)):
        with torch.cuda.stream(side if index % 2 else torch.cuda.current_stream()):
            if index % 8 == 0:
                busy = busy @ busy * 1e-3  # delays the copies in their stream until after their tensors are deleted
            on_gpu, expected = images.to("cuda", non_blocking=True), labels.to("cuda", non_blocking=True)
            del images, labels
            done += 1
            wrong += num_wrong(on_gpu, expected)
    torch.cuda.synchronize()
    assert (int(wrong), done) == (0, num_copies)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_prefetch_returns_all_batches_unchanged_and_in_order_after_a_resume(depth):
    num_batches, wrong = 1000, torch.zeros((), dtype=torch.int64, device="cuda")
    busy, first_labels = torch.randn(2048, 2048, device="cuda"), []
    begun, resumed = (
        mpqueue.torch.prefetch(loader_of(8 * num_batches, 64, batch_size=8), "cuda", depth) for _ in range(2)
    )
    batches = iter(begun)
    for number in range(num_batches):
        if number % 8 == 0:
            busy = busy @ busy * 1e-3  # so that the training's stream is late, and batches are deleted before use
        if number == num_batches // 2:
            resumed.load_state_dict(begun.state_dict())
            batches = iter(resumed)
        images, labels = next(batches)
        wrong += num_wrong(images, labels)
        first_labels.append(labels[0])
    assert int(wrong) == 0
    assert torch.stack(first_labels).tolist() == list(range(0, 8 * num_batches, 8))


def test_a_program_that_is_far_ahead_of_its_gpu_gets_no_private_copies():
    loader, weight = loader_of(BATCH * 100), torch.randn(3 * SIDE * SIDE, 8192, device="cuda")
    for images, _ in loader:
        images.to("cuda", non_blocking=True).flatten(1).float() @ weight
    torch.cuda.synchronize()
    assert loader.statistics().copies == 0


def loop_rate(loader, weight):
    """Return the images per second of a loop that copies and computes."""
    batches, count = iter(loader), 0
    next(batches)
    began = time.perf_counter()
    for images, _ in batches:
        flat = images.to("cuda", non_blocking=True).flatten(1).float()
        (flat @ weight).sum()
        count += len(flat)
    torch.cuda.synchronize()
    return count / (time.perf_counter() - began)


@pytest.mark.measures
def test_a_loop_that_copies_and_computes_is_faster_than_with_torch():
    weight = torch.randn(3 * SIDE * SIDE, 64, device="cuda")
    ours, torchs = (
        max(loop_rate(loader_of(BATCH * 150, make=make), weight) for _ in range(3))
        for make in (mpqueue.torch.DataLoader, torch.utils.data.DataLoader)
    )
    assert ours > torchs
