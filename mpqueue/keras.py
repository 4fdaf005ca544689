"""Keras 3: `model.fit`, `evaluate` and `predict` on mpqueue's workers; the code is in `mpqueue.frameworks.keras`."""

from mpqueue.frameworks.keras.accelerate import accelerate, install

__all__ = ["accelerate", "install"]
