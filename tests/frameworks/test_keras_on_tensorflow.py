"""The tests of fits that depend on the backend of Keras, on TensorFlow, which the other tests of this folder import."""

import os

import pytest

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
pytest.importorskip("tensorflow")
pytest.importorskip("keras.utils")

from frameworks.keras.conftest import delivered
from frameworks.keras.test_epochs import *  # noqa: F403
from frameworks.keras.test_fit import *  # noqa: F403
from helpers.keras_fits import BACKEND

__all__ = ["delivered"]

if BACKEND != "tensorflow":
    pytest.skip("Keras has been imported with another backend", allow_module_level=True)
