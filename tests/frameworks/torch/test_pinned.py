"""Pinned slots, with a stand-in for CUDA: when slots are registered, and when they are written again."""

import gc

import pytest
import torch
from helpers.computed_source import Computed
from helpers.forked_calls import status_of_fork

import mpqueue.torch
from mpqueue.frameworks.torch.tensors import pinned
from mpqueue.frameworks.torch.tensors.pinned import PinnedSlots
from mpqueue.memory.ring import Ring


class FakeEvent:
    """A CUDA event that completes when the test sets it, or in `synchronize`."""

    def __init__(self):
        self.has_passed = self.is_waited_for = False

    def synchronize(self):
        self.has_passed = self.is_waited_for = True

    def query(self):
        return self.has_passed


class FakeCuda:
    """Registrations by address, and pending events."""

    def __init__(self, refuses=False):
        self.registered, self.log, self.events, self.refuses = {}, [], [], refuses
        self.num_noted = 0

    def register(self, address, nbytes):
        if self.refuses:
            return "error 1"
        assert not any(address < start + size and start < address + nbytes for start, size in self.registered.items())
        self.registered[address] = nbytes
        self.log.append(("register", nbytes))
        return ""

    def unregister(self, address):
        self.log.append(("unregister", self.registered.pop(address)))

    def note_current(self):
        self.num_noted += 1

    def record(self):
        self.events.append(FakeEvent())
        return self.events[-1:]

    def let_all_pass(self):
        for event in self.events:
            event.has_passed = True

    def covers(self, address, nbytes):
        return any(start <= address and address + nbytes <= start + size for start, size in self.registered.items())


@pytest.fixture(name="cuda")
def _cuda():
    cuda = FakeCuda()
    yield cuda
    gc.collect()
    cuda.let_all_pass()
    make_ring(cuda).close()
    assert not cuda.registered


def make_ring(cuda):
    """Return a pinned ring. Its construction unregisters the slots of closed rings that are not read any longer."""
    return Ring(2, 1, copy=False, guard=lambda segment: PinnedSlots(cuda, segment))


@pytest.fixture(name="ring")
def _ring(cuda):
    ring = make_ring(cuda)
    yield ring
    ring.close()


def _hand_out(ring, nbytes=100_000):
    """Deliver a batch of this size; return its slot and its view."""
    slot = ring.grant(0)
    assert ring.reserve(slot, nbytes)
    ring.slots.publish(slot, slot.high_water)
    return slot, ring.view(slot, nbytes, None)


def test_slot_is_registered_at_its_first_delivery_and_remains_registered(ring, cuda):
    slot, view = _hand_out(ring)
    address = view.__array_interface__["data"][0]
    assert cuda.covers(address, 100_000)
    del view
    cuda.let_all_pass()
    ring.collect()
    again, _view = _hand_out(ring)
    assert again is slot
    assert cuda.log == [("register", 102_400)]


def test_a_slot_that_has_grown_is_registered_as_one_piece(ring, cuda):
    """A copy must not span two registrations."""
    _, view = _hand_out(ring)
    del view
    cuda.let_all_pass()
    ring.collect()
    _, view = _hand_out(ring, 300_000)
    assert cuda.covers(view.__array_interface__["data"][0], 300_000)
    assert [kind for kind, _ in cuda.log] == ["register", "unregister", "register"]


def test_slot_is_not_free_before_its_copies_are_done(ring, cuda):
    slot, view = _hand_out(ring)
    part = torch.from_numpy(view)[10:20]
    del view
    ring.collect()
    assert not cuda.events  # views of the slot still exist
    del part
    (event,) = cuda.events
    ring.collect()
    assert slot.turn != 0
    event.has_passed = True
    ring.collect()
    assert slot.turn == 0


def test_program_ahead_of_its_gpu_waits_for_the_oldest_copy(ring, cuda):
    for _ in range(20):
        _hand_out(ring)
    assert ring.num_copies == 0
    assert [event.is_waited_for for event in cuda.events] == [True] * 12 + [False] * 8


def test_views_that_are_held_cause_private_copies_without_a_wait(ring, cuda):
    held = [_hand_out(ring) for _ in range(10)]
    assert ring.num_copies == 2
    assert not cuda.events
    del held


def test_slot_is_unregistered_before_its_memory_is_returned(ring, cuda):
    _, view = _hand_out(ring, 8 << 20)
    del view
    cuda.let_all_pass()
    assert ring.give_back() > 0
    assert not cuda.registered


def test_reset_keeps_slots_that_are_being_read(ring, cuda):
    held, view = _hand_out(ring)
    copied, gone = _hand_out(ring)
    del gone
    ring.reset()
    assert (held.turn, copied.turn) != (0, 0)
    free = {slot.index for slot in ring.slots.free_slots()}
    assert {held.index, copied.index}.isdisjoint(free)
    cuda.let_all_pass()
    del view
    cuda.let_all_pass()
    ring.collect()
    assert {held.index, copied.index} <= {slot.index for slot in ring.slots.free_slots()}


def test_slots_read_when_the_ring_closes_are_unregistered_later(cuda):
    ring = make_ring(cuda)
    _, view = _hand_out(ring)
    _, other = _hand_out(ring)
    del other
    ring.close()
    assert len(cuda.registered) == 2
    cuda.let_all_pass()
    make_ring(cuda).close()
    assert len(cuda.registered) == 1
    view[:] = 7  # the memory is still mapped
    del view
    make_ring(cuda).close()
    assert len(cuda.registered) == 1
    cuda.let_all_pass()
    make_ring(cuda).close()
    assert not cuda.registered


def test_a_forked_child_unregisters_nothing(ring, cuda):
    views = [_hand_out(ring)[1]]

    def release():
        before = list(cuda.log)
        views.clear()
        ring.close()
        return cuda.log != before or bool(cuda.events)

    assert status_of_fork(release) == 0
    assert cuda.covers(views[0].__array_interface__["data"][0], 100_000)


def test_memory_that_cuda_cannot_pin_remains_plain(caplog):
    cuda = FakeCuda(refuses=True)
    ring = make_ring(cuda)
    for _ in range(3):
        slot, view = _hand_out(ring)
        del view
        ring.collect()
        assert slot.turn == 0
    ring.close()
    assert len([record for record in caplog.records if "cannot pin" in record.getMessage()]) == 1


# Items large enough to be distinguished from torch's other allocations.
IMAGES = Computed(lambda index: (torch.full((64, 64), index, dtype=torch.uint8), index), 24)


@pytest.mark.skipif(not hasattr(torch, "accelerator"), reason="torch before 2.6 has no torch.accelerator")
@pytest.mark.parametrize("persistent", [False, True])
def test_loader_with_pin_memory_returns_pinned_slots(monkeypatch, cuda, persistent):
    """The stand-in replaces a GPU in torch, too; memory outside slots is passed to torch's own function."""
    device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: device)
    monkeypatch.setattr(pinned, "torch_cuda", lambda: cuda)
    copied = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: _pin(tensor, cuda, copied), raising=False)
    loader = mpqueue.torch.DataLoader(
        IMAGES, batch_size=4, num_workers=2, pin_memory=True, persistent_workers=persistent
    )
    for _ in range(2):
        for index, (images, labels) in enumerate(loader):
            assert bool((images == labels[:, None, None]).all())
            assert labels.tolist() == list(range(4 * index, 4 * index + 4))
            cuda.let_all_pass()
    assert not copied
    assert cuda.num_noted >= 12


def _pin(tensor, cuda, copied):
    if not cuda.covers(tensor.data_ptr(), tensor.nbytes):
        copied.append(tensor)
    return tensor
