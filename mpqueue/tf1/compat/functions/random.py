"""Random values, drawn again in every run.

Each node draws from its own generator, which belongs to the session. It is seeded by the graph's seed
(`set_random_seed`) and the node's seed. If at least one of them is set, every new session draws the same values. The
values differ from TensorFlow's.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from mpqueue.system.signals.locks import Lock
from mpqueue.tf1.compat.functions.array import shape as shape_of
from mpqueue.tf1.compat.functions.control import Assert, control_dependencies
from mpqueue.tf1.compat.functions.declare import public
from mpqueue.tf1.compat.functions.direct import direct
from mpqueue.tf1.compat.functions.kernels import with_own
from mpqueue.tf1.compat.functions.reduce import reduce_all
from mpqueue.tf1.compat.graph import Tensor, convert_to_tensor, get_default_graph
from mpqueue.tf1.compat.ops import dtypes
from mpqueue.tf1.compat.ops.dims import Dims
from mpqueue.tf1.compat.ops.dtypes import DType
from mpqueue.tf1.compat.ops.infer import invalid
from mpqueue.tf1.compat.ops.infer import shape_of as known_shape_of
from mpqueue.tf1.compat.ops.registry import FLOATS, INDEX
from mpqueue.tf1.queues.making import as_integer

_INTS: Final = INDEX.allowed
_GRAPH_SEED: Final = 87654321  # replaces the graph's seed if only the node has one


@public("set_random_seed(...)")
def set_random_seed(seed: int) -> None:
    """Set the seed for all random nodes created in the default graph from this call on."""
    get_default_graph().seed = None if seed is None else as_integer(seed, "seed")


def seeds_of(seed: int | None) -> tuple[int, int] | None:
    """Return the two seeds of a new node, or None if it draws different values in every session."""
    graph = get_default_graph()
    if graph.seed is None and seed is None:
        return None
    number = graph.version if seed is None else as_integer(seed, "seed")
    return (_GRAPH_SEED if graph.seed is None else graph.seed), number


class Generator:
    """A node's thread-safe random number generator in one session.

    Args:
        seeds: The seeds, or None for a random seed.
    """

    def __init__(self, seeds: tuple[int, int] | None) -> None:
        self._rng = np.random.default_rng(None if seeds is None else [each % 2**64 for each in seeds])
        self._lock = Lock()

    def draw(self, method: str, *args: Any, **options: Any) -> Any:
        """Call a method of `numpy.random.Generator`."""
        with self._lock:
            return getattr(self._rng, method)(*args, **options)


def _shape_tensor(shape: Any) -> Tensor:
    tensor = convert_to_tensor(shape, name="shape", preferred_dtype=dtypes.int32)  # [] would be float32
    if tensor.dtype not in _INTS:
        raise TypeError(f"shape must be int32 or int64, got {tensor.dtype.name}")
    return tensor


def _sizes(shape: np.ndarray) -> tuple[int, ...]:
    if shape.ndim != 1 or (shape < 0).any():
        invalid(f"shape must be a vector of non-negative sizes, got {shape.tolist()}")
    return tuple(int(size) for size in shape)


Draw = Callable[..., Any]  # takes a generator, a shape, and the values of the other inputs


def _drawing(kind: str, inputs: list[Tensor], dtype: DType, seed: int | None, name: str | None, draw: Draw) -> Tensor:
    """Create a node that draws an array of the shape in its first input."""

    def drawn(generator: Generator, shape: np.ndarray, *values: np.ndarray) -> np.ndarray:
        return np.asarray(draw(generator, _sizes(shape), *values)).astype(dtype.as_numpy_dtype, copy=False)

    return random_node(kind, inputs, (dtype, known_shape_of(inputs[0])), seed, name, drawn)


def random_node(
    kind: str, inputs: list[Tensor], output: tuple[DType, Dims], seed: int | None, name: str | None, compute: Draw
) -> Tensor:
    """Create a node that draws from its own generator in each session."""
    seeds = seeds_of(seed)
    made = with_own(kind, inputs, [output], lambda: Generator(seeds), compute, name=name, bound=seeds is not None)
    return made.outputs[0]


@public("random_uniform(shape, minval=0, maxval=None, dtype=float32, seed=None, name)", scope="random_uniform")
def random_uniform(shape: Any, minval: Any, maxval: Any, dtype: DType, seed: int | None, name: str) -> Tensor:
    """Draw uniformly distributed values in ``[minval, maxval)``.

    Args:
        shape: The shape of the result.
        minval: The lower bound.
        maxval: The upper bound, 1 by default for floats; required for integers.
        dtype: float16, float32, float64, int32 or int64.
        seed: If set, every session draws the same values.

    Raises:
        ValueError: ``maxval`` is missing for integers, or the type is not supported.
    """
    if dtype not in FLOATS + _INTS:
        raise ValueError(f"random_uniform supports float16, float32, float64, int32 or int64, got {dtype.name}")
    if maxval is None and dtype.is_integer:
        raise ValueError(f"Must specify maxval for integer dtype {dtype.name}")
    low = convert_to_tensor(minval, dtype, "min")
    high = convert_to_tensor(1 if maxval is None else maxval, dtype, "max")
    draw = _draw_ints if dtype.is_integer else _draw_floats
    return _drawing("RandomUniform", [_shape_tensor(shape), low, high], dtype, seed, name, draw)


def _draw_ints(generator: Generator, shape: tuple[int, ...], low: np.ndarray, high: np.ndarray) -> Any:
    if not (low < high).all():
        invalid(f"Need minval < maxval, got {low} >= {high}")
    return generator.draw("integers", low, high, shape, dtype=low.dtype)


def _draw_floats(generator: Generator, shape: tuple[int, ...], low: np.ndarray, high: np.ndarray) -> Any:
    wide = np.float64 if low.dtype == np.float64 else np.float32
    drawn = generator.draw("random", shape, dtype=wide).astype(low.dtype) * (high - low) + low
    return np.minimum(drawn, np.nextafter(high, low, dtype=low.dtype))  # rounding may have reached the upper bound


def _draw_normal(generator: Generator, shape: tuple[int, ...], mean: np.ndarray, stddev: np.ndarray) -> Any:
    return generator.draw("standard_normal", shape) * stddev + mean


def _draw_truncated(generator: Generator, shape: tuple[int, ...], mean: np.ndarray, stddev: np.ndarray) -> Any:
    drawn = np.asarray(generator.draw("standard_normal", shape))
    while (far := np.abs(drawn) > 2).any():
        drawn = np.where(far, generator.draw("standard_normal", shape), drawn)
    return drawn * stddev + mean


def _normal(public_name: str, kind: str, what: str, draw: Draw) -> Callable[..., Tensor]:
    @public(
        f"{public_name}(shape, mean=0.0, stddev=1.0, dtype=float32, seed=None, name)",
        scope=public_name,
        doc=f"{what}\n\nArgs:\n    mean: The mean.\n    stddev: The standard deviation.",
        like=random_uniform,
    )
    def function(shape: Any, mean: Any, stddev: Any, dtype: DType, seed: int | None, name: str) -> Tensor:
        if dtype not in FLOATS:
            raise TypeError(f"{public_name} supports float16, float32 or float64, got {dtype.name}")
        centre, width = convert_to_tensor(mean, dtype, "mean"), convert_to_tensor(stddev, dtype, "stddev")
        return _drawing(kind, [_shape_tensor(shape), centre, width], dtype, seed, name, draw)

    return function


random_normal = _normal("random_normal", "RandomStandardNormal", "Draw normally distributed values.", _draw_normal)
truncated_normal = _normal(
    "truncated_normal",
    "TruncatedNormal",
    "Draw normally distributed values; values beyond two standard deviations are drawn again.",
    _draw_truncated,
)


@public("random_shuffle(value, seed=None, name)")
def random_shuffle(value: Tensor, seed: int | None, name: str | None) -> Tensor:
    """Shuffle the rows."""

    def shuffled(generator: Generator, rows: np.ndarray) -> Any:
        return rows[generator.draw("permutation", len(rows))] if rows.ndim else rows

    output = (value.dtype.base_dtype, value.known_dims)
    return random_node("RandomShuffle", [value], output, seed, name, shuffled)


@public("random_crop(value, size, seed=None, name)", scope="random_crop")
def random_crop(value: Tensor, size: Any, seed: int | None, name: str) -> Tensor:
    """Crop a window of shape ``size`` at a random position.

    Args:
        value: The array.
        size: A size for each axis. If one exceeds the array's size, the run raises `InvalidArgumentError`.
        seed: If set, every session draws the same positions.
    """
    size = convert_to_tensor(size, dtypes.int32, "size")
    whole = shape_of(value)
    fits = Assert(reduce_all(whole >= size), ["Need value.shape >= size, got ", whole, size], summarize=1000)
    with control_dependencies([fits]):
        room = whole - size + 1
    start = random_uniform(shape_of(whole), 0, dtypes.int32.max, dtypes.int32, seed)
    return direct.slice(value, start % room, size, name=name)
