"""`scripts/pinned` says PASS where all checks pass, and FAIL where one does not; a CPU stands in for the GPU."""

import contextlib
import sys

import pytest
import torch
from helpers.scripts import script

import mpqueue.torch

checks, command = script("parts.pinned.checks"), script("parts.pinned.command")
Finding = checks.Finding
CHECKS = ("is_pinned", "transfer_rate", "overlapped_copies", "real_loop")


@pytest.fixture(name="gpu")
def _gpu(monkeypatch):
    """What the checks call, without a GPU."""
    monkeypatch.setattr(checks, "DEVICE", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a stand-in")
    for name in ("Stream", "current_stream", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())


def _run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["pinned", *arguments])
    return command.main("about")


@pytest.mark.parametrize("failing", [None, *CHECKS])
def test_one_check_that_fails_makes_it_fail(gpu, monkeypatch, capsys, failing):
    for name in CHECKS:
        monkeypatch.setattr(checks, name, lambda *_, name=name: Finding(name != failing, "found"))
    assert _run(monkeypatch) == (failing is not None)
    *lines, verdict = capsys.readouterr().out.splitlines()
    assert verdict == ("PASS" if failing is None else "FAIL")
    assert [line[:4] for line in lines[1:]] == ["ok  " if name != failing else "FAIL" for name in CHECKS]


def test_without_a_gpu_nothing_was_checked(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert _run(monkeypatch) == 2
    assert "nothing was checked" in capsys.readouterr().out


def test_no_copies_at_all_are_refused(gpu, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        _run(monkeypatch, "--copies", "0")
    assert "--copies must be 1 or more, got 0" in capsys.readouterr().err


def _batches(num_batches):
    numbers = torch.arange(8 * num_batches)
    images = (numbers % 251).to(torch.uint8)[:, None, None, None].repeat(1, 4, 4, 3)
    return [(images[8 * n : 8 * n + 8].clone(), numbers[8 * n : 8 * n + 8]) for n in range(num_batches)]


def _spoiled(batches):
    batches[1][0][3, 2, 1, 0] += 1
    return batches


def _give(monkeypatch, batches):
    monkeypatch.setattr(mpqueue.torch, "DataLoader", lambda *_, **__: batches)


@pytest.mark.parametrize(
    ("batches", "passes", "text"),
    [
        (_batches(3), True, "0 wrong bytes in 3 overlapped copies"),
        (_spoiled(_batches(3)), False, "1 wrong bytes in 3 overlapped copies"),
        (_batches(2), False, "0 wrong bytes in 2 overlapped copies"),
    ],
    ids=["whole", "a byte is wrong", "a batch is missing"],
)
def test_a_wrong_byte_or_a_missing_batch_is_found(gpu, monkeypatch, batches, passes, text):
    _give(monkeypatch, batches)
    assert checks.overlapped_copies(3) == Finding(passes, text)


@pytest.mark.parametrize("is_pinned", [True, False])
def test_memory_that_is_not_pinned_is_found(gpu, monkeypatch, is_pinned):
    _give(monkeypatch, _batches(20))
    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda _: is_pinned)
    assert checks.is_pinned() == Finding(is_pinned, f"{20 * is_pinned} of 20 batches are pinned")


@pytest.mark.parametrize(("ours", "passes"), [(20.0, True), (19.0, True), (18.9, False)])
def test_a_rate_below_that_of_pinned_memory_is_found(gpu, monkeypatch, ours, passes):
    rates = iter([ours] * 5 + [20.0] * 5)
    _give(monkeypatch, _batches(1))
    monkeypatch.setattr(torch, "empty_like", lambda tensor, **_: tensor)
    monkeypatch.setattr(checks, "_rate", lambda *_: next(rates))
    assert checks.transfer_rate().passes is passes


@pytest.mark.parametrize(("ours", "passes"), [(101.0, True), (100.0, False)])
def test_a_loop_that_is_no_faster_than_torchs_is_found(gpu, monkeypatch, ours, passes):
    monkeypatch.setattr(checks, "_loop_rate", lambda loader, _: 100.0 if loader is None else ours)
    monkeypatch.setattr(torch.utils.data, "DataLoader", lambda *_, **__: None)
    _give(monkeypatch, [])
    assert checks.real_loop().passes is passes
