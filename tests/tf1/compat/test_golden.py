"""The golden cases of the eager toolbox, run through nodes: they were made with a graph, and hold there without exception."""

import importlib
import json
from pathlib import Path

import pytest

from mpqueue.tf1.compat.train import processes, runners

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
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


WITH_PROCESSES = {topic: INTERPRETERS[topic] for topic in ("batches", "pipelines")}
# Workers enqueue in the same way for any order of the examples that the queue returns.
OF_THE_QUEUE = ("shuffle_batch", "shuffle_batch_join")
RECORD_BY_RECORD = {"pipelines": INTERPRETERS["pipelines"]}  # other topics do not process records


def cases(interpreters):
    for topic, interpreter in interpreters.items():
        for case in json.loads((GOLDEN / f"{topic}.json").read_text("utf-8"))["cases"]:
            if interpreter != "queue_runner" or "runner" in case:  # the others are about the eager constructor
                yield pytest.param(interpreter, case, id=case["id"].replace("/", "-"))


@pytest.mark.parametrize(("interpreter", "case"), list(cases(INTERPRETERS)))
def test_a_case_holds_in_a_graph(interpreter, case, monkeypatch):
    monkeypatch.chdir(GOLDEN)
    importlib.import_module(f"tf1.compat.deferred.{interpreter}").run(case, GOLDEN)


@pytest.mark.sample(8)
@pytest.mark.parametrize(
    ("interpreter", "case"), [one for one in cases(WITH_PROCESSES) if one.values[1]["op"] not in OF_THE_QUEUE]
)
def test_a_case_holds_with_worker_processes(interpreter, case, monkeypatch):
    monkeypatch.setattr(processes, "_choice", [True])
    monkeypatch.chdir(GOLDEN)
    importlib.import_module(f"tf1.compat.deferred.{interpreter}").run(case, GOLDEN)


@pytest.mark.parametrize(("interpreter", "case"), list(cases(RECORD_BY_RECORD)))
def test_a_case_holds_record_by_record(interpreter, case, monkeypatch):
    monkeypatch.setattr(runners, "record_plan", lambda _plan: None)
    monkeypatch.chdir(GOLDEN)
    importlib.import_module(f"tf1.compat.deferred.{interpreter}").run(case, GOLDEN)
