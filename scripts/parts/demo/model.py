"""A small image classifier in NumPy: a convolution over patches, pooling and a softmax, trained with Adam."""

import numpy as np

STEP = 4  # only every fourth pixel is used
PATCH = 8  # pixels per side of a patch, after subsampling


class PatchClassifier:
    """An image classifier that uses textures and colours.

    Each patch of 8x8 subsampled pixels is mapped to `num_features` features by a matrix and a ReLU. The inputs of the
    softmax are the mean and the maximum of each feature over the image.

    Args:
        num_classes: Number of classes.
        num_features: Number of features of a patch.
        rate: Adam's step size.

    Attributes:
        weights: The matrices and biases of the features and of the softmax.
    """

    def __init__(self, num_classes: int, num_features: int = 128, rate: float = 2e-3) -> None:
        rng = np.random.default_rng(0)
        self._rate, self._num_steps = rate, 0
        self.weights = [
            self._random(rng, PATCH * PATCH * 3, num_features),
            np.zeros(num_features, np.float32),
            self._random(rng, 2 * num_features, num_classes),
            np.zeros(num_classes, np.float32),
        ]
        self._means = [np.zeros_like(weight) for weight in self.weights]
        self._squares = [np.zeros_like(weight) for weight in self.weights]

    @staticmethod
    def _random(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
        return rng.normal(0, rows**-0.5, (rows, columns)).astype(np.float32)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return the class of each image: ints of shape (n,) for images of shape (n, height, width, 3)."""
        return self._forward(images)[-1].argmax(1)

    def train(self, images: np.ndarray, labels: np.ndarray) -> float:
        """Take one step of gradient descent; return the mean cross-entropy before it."""
        patches, features, pooled, chances = self._forward(images)
        rows = np.arange(len(labels))
        loss = -np.log(chances[rows, labels] + 1e-9).mean()
        chances[rows, labels] -= 1
        self._descend(self._gradients(patches, features, pooled, chances / len(labels)))
        return float(loss)

    def _forward(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        kernel, kernel_bias, head, head_bias = self.weights
        patches = _patches(images[:, ::STEP, ::STEP])
        features = np.maximum(patches @ kernel + kernel_bias, 0)
        pooled = np.concatenate([features.mean(1), features.max(1)], 1)
        scores = pooled @ head + head_bias
        chances = np.exp(scores - scores.max(1, keepdims=True))
        return patches, features, pooled, chances / chances.sum(1, keepdims=True)

    def _gradients(
        self, patches: np.ndarray, features: np.ndarray, pooled: np.ndarray, errors: np.ndarray
    ) -> list[np.ndarray]:
        num_images, num_patches, num_features = features.shape
        of_mean, of_max = np.split(errors @ self.weights[2].T, 2, axis=1)
        of_features = np.repeat(of_mean[:, None] / num_patches, num_patches, axis=1)
        winners = np.arange(num_images)[:, None], features.argmax(1), np.arange(num_features)
        of_features[winners] += of_max
        of_features *= features > 0
        of_kernel = patches.reshape(-1, patches.shape[2]).T @ of_features.reshape(-1, num_features)
        return [of_kernel, of_features.sum((0, 1)), pooled.T @ errors, errors.sum(0)]

    def _descend(self, gradients: list[np.ndarray]) -> None:
        self._num_steps += 1
        for weight, gradient, mean, square in zip(self.weights, gradients, self._means, self._squares, strict=True):
            mean[:] += 0.1 * (gradient - mean)
            square[:] += 0.001 * (gradient * gradient - square)
            step = mean / (1 - 0.9**self._num_steps)
            weight[:] -= self._rate * step / (np.sqrt(square / (1 - 0.999**self._num_steps)) + 1e-8)


def _patches(images: np.ndarray) -> np.ndarray:
    """Convert images of shape (n, h, w, 3) to one row of pixels per patch: (n, h * w / PATCH**2, PATCH * PATCH * 3)."""
    n, height, width, colours = images.shape
    grid = images.reshape(n, height // PATCH, PATCH, width // PATCH, PATCH, colours)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(n, -1, PATCH * PATCH * colours)
