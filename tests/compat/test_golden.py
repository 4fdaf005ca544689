"""The golden cases of the eager toolbox, run through nodes: they were made with a graph, and hold there without exception."""

import importlib
import json
from pathlib import Path

import pytest

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
INTERPRETERS = {
    "decode_csv": "decoders",
    "decode_json_example": "decoders",
    "decode_raw": "decoders",
    "parse_example": "decoders",
    "files": "files",
    "placeholders": "placeholders",
    "readers": "readers",
    "producers": "producers",
    "batches": "batches",
    "pipelines": "pipelines",
    "queue_runner": "queue_runner",
    "queue_runner_random": "queue_runner",
    "queues": "queues",
    "queues_random": "queues",
}


def cases():
    for topic, interpreter in INTERPRETERS.items():
        for case in json.loads((GOLDEN / f"{topic}.json").read_text("utf-8"))["cases"]:
            if interpreter != "queue_runner" or "runner" in case:  # the others are about the eager constructor
                yield pytest.param(interpreter, case, id=case["id"].replace("/", "-"))


@pytest.mark.parametrize(("interpreter", "case"), list(cases()))
def test_a_case_holds_in_a_graph(interpreter, case, monkeypatch):
    monkeypatch.chdir(GOLDEN)
    importlib.import_module(f"compat.deferred.{interpreter}").run(case, GOLDEN)
