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


def play(topic, case, folder, config):
    if not (TOPICS / f"{topic}.py").exists():
        pytest.skip(f"no interpreter yet for the topic {topic}")
    interpreter = importlib.import_module(f"golden.topics.{topic}")
    if config.getoption("--stock") and hasattr(interpreter, "run_stock"):
        interpreter.run_stock(case, folder)
    else:
        interpreter.run(case, folder)


def test_case(topic, golden_case, golden_folder, pytestconfig):
    play(topic, golden_case, golden_folder, pytestconfig)


@pytest.mark.sample(60)
def test_random_case(topic, random_case, golden_folder, pytestconfig):
    play(topic, random_case, golden_folder, pytestconfig)


@pytest.mark.sample(72)
def test_signature(topic, signature, golden_folder, pytestconfig):
    play(topic, signature, golden_folder, pytestconfig)
