"""The parts of scripts/demo: the files that it cuts, its classifier, its verdict, and its figures."""

import dataclasses
import json
import os
import random
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from helpers.scripts import SCRIPTS, script
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import mpqueue


@given(width=st.integers(300, 1500), height=st.integers(100, 1500), seed=st.integers())
def test_no_pixel_is_both_trained_on_and_held_out(width, height, seed):
    """Squares for training end where those for validation begin, and all lie inside the photograph."""
    photos = script("parts.photographs.cut")
    rng = random.Random(seed)
    trained = photos.cut_box(rng, width, height, held_out=False)
    held_out = photos.cut_box(rng, width, height, held_out=True)
    assert trained[2] <= held_out[0]
    for left, top, right, bottom in (trained, held_out):
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert right - left == bottom - top


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    """Two small pictures in place of the photographs of the wheels; gives how often they were asked for."""
    photos = script("parts.photographs.cut")
    pictures = {}
    for place, name in enumerate(("left", "right")):
        pictures[name] = tmp_path / f"{name}.png"
        noise = np.random.default_rng(place).integers(0, 256, (300, 320, 3), np.uint8)
        Image.fromarray(noise).save(pictures[name])
    asked = []

    def found():
        asked.append(1)
        return pictures.items()

    monkeypatch.setattr(photos, "photographs", found)
    return asked


def test_the_cache_is_cut_once(photographs, tmp_path):
    """The second time finds the folder whole, and nothing unfinished lies beside it."""
    photos = script("parts.photographs.cut")
    first = photos.cut(tmp_path / "cache", 3, 2)
    assert photos.cut(tmp_path / "cache", 3, 2) == first
    assert len(photographs) == 1
    assert list((tmp_path / "cache").iterdir()) == [first]


def test_files_are_of_all_classes_in_turn(photographs, tmp_path):
    """Any stretch of the files has every class, and every file is a JPEG of 224 pixels."""
    photos = script("parts.photographs.cut")
    folder = photos.cut(tmp_path / "cache", 3, 2)
    found = photos.files(folder, "train")
    assert found.names == ("left", "right")
    assert found.labels == (0, 1, 0, 1, 0, 1)
    assert [Path(path).parent.name for path in found.paths] == ["left", "right"] * 3
    assert len(photos.files(folder, "held_out").paths) == 4
    for path in found.paths:
        with Image.open(path) as image:
            assert (image.format, image.size, image.mode) == ("JPEG", (224, 224), "RGB")


def test_the_classifier_descends_along_its_gradient():
    """The gradients are those of the loss: checked against differences, in double precision."""
    model = script("parts.demo.model").PatchClassifier(3, num_features=5)
    rng = np.random.default_rng(0)
    model._weights = [rng.normal(size=weight.shape) for weight in model._weights]
    images, labels = rng.normal(size=(4, 64, 64, 3)), np.array([0, 1, 2, 1])

    def loss():
        return -np.log(model._forward(images)[-1][np.arange(4), labels]).mean()

    patches, features, pooled, chances = model._forward(images)
    errors = (chances - np.eye(3)[labels]) / 4
    gradients = model._gradients(patches, features, pooled, errors)
    for weight, gradient in zip(model._weights, gradients, strict=True):
        place = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
        before, width = weight[place], 1e-5
        weight[place] = before + width
        above = loss()
        weight[place] = before - width
        below = loss()
        weight[place] = before
        assert gradient[place] == pytest.approx((above - below) / (2 * width), rel=1e-4)


@dataclasses.dataclass(frozen=True)
class Counts:
    """The part of an enqueuer's statistics that the demo looks at."""

    batches: int = 0
    bytes: int = 0
    wait_s: float = 0.0
    compute_s: float = 0.0
    credit_wait_s: float = 0.0
    slots_in_use: int = 0
    num_slots: int = 18


@pytest.mark.parametrize(
    ("waited", "idle", "workers", "said"),
    [
        (8.0, 0.0, 2, "The workers are the bottleneck: the trainer waited for them 80%"),
        (8.0, 0.0, 2, "--workers 4"),
        (8.0, 0.0, 4, "all 4 CPUs have one already, so make a batch cheaper than its 250 ms"),
        (0.5, 36.0, 4, "The consumer is the bottleneck: the workers waited for it 90%"),
    ],
)
def test_the_verdict_names_who_holds_up_whom(monkeypatch, waited, idle, workers, said):
    """Ten seconds, in which one side waited for the other."""
    report = script("parts.demo.report")
    clock = iter([100.0, 110.0])
    monkeypatch.setattr(report.time, "perf_counter", lambda: next(clock))
    counts = iter([Counts(), Counts(batches=40, wait_s=waited, compute_s=10.0, credit_wait_s=idle)])
    meter = report.Meter(types.SimpleNamespace(statistics=lambda: next(counts)))
    assert said in meter.verdict(workers, num_cpus=4)


def test_help_sets_nothing_up(tmp_path):
    """The usage is printed in a checkout where nothing was installed, and nothing is after it."""
    shutil.copytree(SCRIPTS, tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(["sh", "scripts/demo", "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    for option in ("--workers N", "--epochs N", "--seed N", "--keras", "--torch", "--service", "--ray"):
        assert option in done.stdout
    assert [entry.name for entry in tmp_path.iterdir()] == ["scripts"]


# A demo on two small pictures.
SMALL = """
import hashlib, json, runpy, sys
from pathlib import Path
from parts.demo import compare
from parts.photographs import cut, dataset

folder = Path(sys.argv.pop(1))
dataset.CACHE, dataset.TRAIN_FILES, dataset.HELD_OUT_FILES = folder / "cache", 64, 16
cut.photographs = lambda: [(name, folder / f"{name}.png") for name in ("left", "right")]
"""
# Without its comparison of feeds; the last line is a digest of the trained model.
SMALL_DEMO = f"""{SMALL}
compare.compare = lambda *_: {{"no workers": 1.0}}
model = runpy.run_module("parts.demo.train_numpy", run_name="__main__")["model"]
print(hashlib.sha256(b"".join(weight.tobytes() for weight in model._weights)).hexdigest())
"""
# The last line is the losses and accuracies with the service and without it, and the batches that the server has computed.
SMALL_SERVICE = f"""{SMALL}
done = runpy.run_module("parts.demo.train_service", run_name="__main__")
trained = [[(one.loss, one.accuracy) for one in done[how]] for how in ("served", "alone")]
print(json.dumps([*trained, done["num_computed"]]))
"""


@pytest.mark.slow
def test_a_seed_gives_the_same_figures_at_each_run(photographs, tmp_path):
    """Files in the same order, augmented equally: the trained weights are equal to the bit; another seed differs."""
    script = tmp_path / "small_demo.py"
    script.write_text(SMALL_DEMO)

    def trained(*options):
        out = _run(script, tmp_path, *options)
        return [line for line in out.splitlines() if line.startswith("accuracy") or len(line) == 64]

    first = trained()
    assert len(first) == 3
    assert trained() == first
    assert trained("--seed", "7")[-1] != first[-1]


def _run(script, folder, *options):
    paths = [str(SCRIPTS), str(Path(mpqueue.__file__).parents[1])]
    done = subprocess.run(
        [sys.executable, str(script), str(folder), "--epochs", "1", "--workers", "2", *options],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)}, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the service needs Linux")
def test_a_model_reaches_the_same_with_the_service_and_without_it(photographs, tmp_path):
    """The seed decides, so each batch is the same; and the server computes it once for all three."""
    script = tmp_path / "small_service.py"
    script.write_text(SMALL_SERVICE)
    out = _run(script, tmp_path, "--service")
    served, alone, num_computed = json.loads(out.splitlines()[-1])
    assert len(served) == 3
    assert served == alone
    assert len({loss for loss, _ in served}) == 3  # each has a learning rate of its own
    assert num_computed == 4
    assert "one server with 2 workers, three trainers" in out
    assert "times the images/s" in out
