"""Seeding of `tf.random` for each batch or sample, if TensorFlow is imported.

``tf.random.set_seed`` before each batch is too expensive: the seed is an attribute of TensorFlow's kernels, which it
caches. Each draw would create and keep a kernel (0.9 ms and 35 KB, while a draw takes 0.05 ms), and clearing that cache
restarts all tf.functions of the process. So the drawing operations are replaced, where TensorFlow's Python looks them
up, by ones without a state:

============================================  =======================================================================
Situation                                     Operation
============================================  =======================================================================
this thread computes a batch                  the stateless operation of the same distribution, with a seed from
                                              (seed, epoch, index) and the number of the draw in the batch
other threads, such as the training step      TensorFlow's own
user code has called tf.random.set_seed       TensorFlow's own, with the user's seed, until the end of the batch
a tf.function is traced                       TensorFlow's own, with the seed of that time; one warning
============================================  =======================================================================

A batch without draws has no cost, because only the draw looks up the batch. A draw takes 0.12 ms instead of 0.05.
Worker processes, threads and the trainer share no state, so all get the same numbers.

The replaced names are internals of TensorFlow. If one is missing, `follow` warns once and replaces none of them.
"""

import functools
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

from mpqueue.seeding.global_rng import number_of
from mpqueue.system import log
from mpqueue.system.user_code.imports import Watch
from mpqueue.worker import context

_HELP = (
    "seeds from mpqueue.rng(), passed to tf.random.stateless_uniform and similar functions, are reproducible",
    "Resume and reproduce a training",
    "Random numbers",
)


class _Draws:
    """The number of draws in a batch."""

    of: tuple[int, int, int] | None = None
    count = 0


class _DrawsOfThread(_Draws, threading.local):
    pass


# A worker process has one batch, whichever thread of the user draws. Helper threads, and all threads elsewhere, have
# their own.
_draws_of_process, _draws_of_thread = _Draws(), _DrawsOfThread()
_seeded_by_user: Any = None  # the batch where user code has called `tf.random.set_seed`
_is_followed = _has_warned = False


def follow() -> Watch:
    """Seed `tf.random` in batches of this process, beginning with the import of TensorFlow."""
    return Watch("tensorflow", _replace)


def _replace(tensorflow: ModuleType) -> None:
    global _is_followed
    if _is_followed or not hasattr(tensorflow, "random"):
        return  # another module of this name, such as a stub
    try:
        drawing = import_module("tensorflow.python.ops.gen_random_ops")
        eager = import_module("tensorflow.python.eager.context")
        replacements = _replacements()
        # All replacements are looked up before the first one is installed, so that a failure leaves TensorFlow
        # unchanged.
        replaced = {name: _seeded(getattr(drawing, name), by, eager) for name, by in replacements.items()}
        setting = eager.context()._set_global_seed
    except (AttributeError, ImportError) as error:
        log.warn(f"tf.random of this TensorFlow cannot be seeded for each batch ({error}): {_HELP[0]}", *_HELP[1:])
        return
    eager.context()._set_global_seed = functools.partial(_set_seed, setting)
    for name, function in replaced.items():
        setattr(drawing, name, function)
    _is_followed = True


def _replacements() -> dict[str, Callable[..., Any]]:
    """Return the stateless operations, by the name of the replaced operation; their first argument is the seed.

    Raises:
        AttributeError, ImportError: This TensorFlow has them elsewhere.
    """
    plain = import_module("tensorflow.python.ops.gen_stateless_random_ops")
    shaped = import_module("tensorflow.python.ops.stateless_random_ops")
    array_ops = import_module("tensorflow.python.ops.array_ops")

    def after_shape(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda seed, shape, *arguments, **named: function(shape, seed, *arguments, **named)

    def gamma(seed: Any, shape: Any, alpha: Any, **named: Any) -> Any:
        whole = array_ops.concat([shape, array_ops.shape(alpha)], 0)  # the stateful one takes the shape per alpha
        return plain.stateless_random_gamma_v2(whole, seed, alpha, **named)

    def poisson(seed: Any, shape: Any, rate: Any, **named: Any) -> Any:
        whole = array_ops.concat([shape, array_ops.shape(rate)], 0)
        return plain.stateless_random_poisson(whole, seed, rate, **named)

    def multinomial(seed: Any, logits: Any, num_samples: Any, **named: Any) -> Any:
        return plain.stateless_multinomial(logits, num_samples, seed, **named)

    def shuffle(seed: Any, value: Any, **named: Any) -> Any:
        return shaped.stateless_shuffle(value, seed, **named)

    return {
        "random_uniform": after_shape(plain.stateless_random_uniform),
        "random_uniform_int": after_shape(plain.stateless_random_uniform_int),
        "random_standard_normal": after_shape(plain.stateless_random_normal),
        "truncated_normal": after_shape(plain.stateless_truncated_normal),
        "parameterized_truncated_normal": after_shape(plain.stateless_parameterized_truncated_normal),
        "random_gamma": gamma,
        "random_poisson_v2": poisson,
        "multinomial": multinomial,
        "random_shuffle": shuffle,
    }


def _seeded(original: Callable[..., Any], by: Callable[..., Any], eager: ModuleType) -> Callable[..., Any]:
    """Return an operation that draws the numbers of the present batch."""

    @functools.wraps(original)
    def draw(*arguments: Any, seed: Any = 0, seed2: Any = 0, **named: Any) -> Any:
        of = context.seeded_batch()
        if of is not None and of is not _seeded_by_user:
            # In a graph the seed would become a constant, the same for all batches.
            if eager.executing_eagerly():
                return by(_next_seed(of), *arguments, **named)
            _tell_of_function()
        return original(*arguments, seed=seed, seed2=seed2, **named)

    return draw


def _next_seed(of: tuple[int, int, int]) -> list[int]:
    is_of_process = context.process_info() is not None and not context.is_helper()
    draws = _draws_of_process if is_of_process else _draws_of_thread
    if draws.of is not of:  # each batch has its own object, even if it is computed again
        draws.of, draws.count = of, 0
    draws.count += 1
    return [number_of(*of) - (1 << 63), draws.count]  # TensorFlow expects a signed integer


def _set_seed(original: Callable[[Any], None], seed: Any) -> None:
    global _seeded_by_user
    original(seed)
    _seeded_by_user = context.seeded_batch()


def _tell_of_function() -> None:
    global _has_warned
    if not _has_warned:
        _has_warned = True
        log.warn(
            "the source draws from tf.random inside a tf.function (or in tf.data's map). Its seed is fixed "
            f"when it is traced, so these numbers are not seeded for each batch. {_HELP[0].capitalize()}, also as its "
            "arguments",
            *_HELP[1:],
        )


class SavedTensorFlowState:
    """The state of TensorFlow's generator in the trainer, to be restored after a batch was computed there."""

    def __init__(self) -> None:
        eager = sys.modules.get("tensorflow.python.eager.context") if _is_followed else None
        self._context: Any = None if eager is None else eager.context()
        if self._context is not None:
            self._seed, self._rng = self._context._seed, getattr(self._context, "_rng", None)
            self._state = None if self._rng is None else self._rng.getstate()

    def restore(self) -> None:
        """Restore the state."""
        if self._context is not None:
            self._context._seed = self._seed
            if self._rng is not None:
                self._rng.setstate(self._state)
                self._context._rng = self._rng
