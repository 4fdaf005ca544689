"""What TensorFlow and Keras really did, case by case.

Each topic has an interpreter of its steps, ``topics/<topic>.py`` with ``run(case, folder)``, which asserts; and may have
``DIFFERENCES``: case ids (without topic) mapped to the reason why mpqueue does otherwise on purpose. Those cases are
run all the same: `run` is told by ``case["difference"]``, and asserts what mpqueue does instead. With ``--stock`` a
topic that has ``run_stock`` is played on the framework itself.
"""

import importlib
from pathlib import Path

import pytest

TOPICS = Path(__file__).resolve().parent / "topics"


def test_case(topic, golden_case, golden_folder, request):
    if not (TOPICS / f"{topic}.py").exists():
        pytest.skip(f"no interpreter yet for the topic {topic}")
    interpreter = importlib.import_module(f"golden.topics.{topic}")
    if request.config.getoption("--stock") and hasattr(interpreter, "run_stock"):
        interpreter.run_stock(golden_case, golden_folder)
    else:
        interpreter.run(golden_case, golden_folder)
