"""Runs of records with the maximum length from the first run on, independent of the speed of this machine."""

import pytest

from mpqueue.tf1.train import record_runs


class LongRuns:
    wanted = 64

    def note(self, *_measured):
        """Keep the length."""


@pytest.fixture
def long_runs(monkeypatch):
    monkeypatch.setattr(record_runs, "RunLength", LongRuns)
