"""``scripts/pinned`` prints PASS only if all checks pass; a CPU replaces the GPU."""

import sys

import pytest
import torch
from helpers.scripts import script

checks, command = script("parts.pinned.checks"), script("parts.pinned.command")
CHECKS = ("is_pinned", "transfer_rate", "overlapped_copies", "prefetched", "running_ahead", "real_loop")


@pytest.mark.parametrize("failing", [None, CHECKS[2]])
def test_one_failed_check_makes_the_run_fail(monkeypatch, capsys, failing):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a stand-in")
    for name in CHECKS:
        monkeypatch.setattr(checks, name, lambda *_, name=name: checks.Finding(name != failing, "found"))
    monkeypatch.setattr(sys, "argv", ["pinned"])
    assert command.main("about") == (failing is not None)
    assert capsys.readouterr().out.splitlines()[-1] == ("PASS" if failing is None else "FAIL")


def test_without_a_gpu_the_run_reports_that_no_check_was_run(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["pinned"])
    assert command.main("about") == 2
    assert "no check was run" in capsys.readouterr().out
