"""A small network in NumPy: one hidden layer and a softmax, trained by gradient descent with momentum."""

import copy
from typing import Any

import numpy as np


class Classifier:
    """A classifier.

    Args:
        num_inputs: Number of inputs.
        num_classes: Number of classes.
        num_hidden: Number of hidden units.
        rate: Step size.
    """

    def __init__(self, num_inputs: int, num_classes: int, num_hidden: int = 64, rate: float = 0.05) -> None:
        rng = np.random.default_rng(0)
        self._rate = rate
        self.weights: list[Any] = [
            rng.normal(0, num_inputs**-0.5, (num_inputs, num_hidden)).astype(np.float32),
            rng.normal(0, num_hidden**-0.5, (num_hidden, num_classes)).astype(np.float32),
        ]
        self._momenta: list[Any] = [np.zeros_like(weight) for weight in self.weights]

    def train(self, inputs: Any, labels: Any) -> float:
        """Take one step; return the mean cross-entropy before it."""
        hidden = np.maximum(inputs @ self.weights[0], 0)
        scores = hidden @ self.weights[1]
        chances = np.exp(scores - scores.max(1, keepdims=True))
        chances /= chances.sum(1, keepdims=True)
        rows = np.arange(len(labels))
        loss = -np.log(chances[rows, labels] + 1e-9).mean()
        chances[rows, labels] -= 1
        chances /= len(labels)
        of_hidden = (chances @ self.weights[1].T) * (hidden > 0)
        gradients = [inputs.T @ of_hidden, hidden.T @ chances]
        for weight, momentum, gradient in zip(self.weights, self._momenta, gradients, strict=True):
            momentum[:] = 0.9 * momentum - self._rate * gradient
            weight[:] += momentum
        return float(loss)

    def state(self) -> Any:
        """Return a copy of the weights and momenta."""
        return copy.deepcopy((self.weights, self._momenta))

    def load(self, state: Any) -> None:
        """Restore a result of `state`."""
        self.weights, self._momenta = copy.deepcopy(state)
