"""Numbers of `tf.random`, seeded for each batch or sample where TensorFlow is imported.

``tf.random.set_seed`` before each batch would do it, but the seed is an attribute of TensorFlow's kernels, which it
caches: each draw would make and keep a kernel (0.9 ms and 35 KB, where a draw takes 0.05 ms), and to clear that cache
makes all tf.functions of the process begin anew. So the operations that draw are replaced, where TensorFlow's Python
looks them up, by ones that keep nothing:

    a batch is computed by this thread     the stateless operation of the same distribution, whose seed is made of
                                           (seed, epoch, unit), and of the number of the draw in the batch
    else                                   TensorFlow's own: of the training step, of threads that are no worker's
    user code has called tf.random.set_seed for this batch     TensorFlow's own: the user's seed holds until its end
    a tf.function is traced                TensorFlow's own: its seeds are fixed when it is traced; one warning

A batch that draws nothing costs nothing: the batch is asked for by the draw. A draw takes 0.12 ms in place of 0.05.
Worker processes, threads and the trainer share no state of it, so all of them get the same numbers.

These places are details of TensorFlow. Where one is not as expected, `follow` says so once, and nothing is replaced.
"""

import functools
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

from mpqueue.system import log
from mpqueue.system.imports import Watch
from mpqueue.worker import context

_HELP = (
    "seeds drawn from mpqueue.rng() and given to tf.random.stateless_uniform and its kin are the same for each batch",
    "Reproducibility",
    "Random numbers",
)


class _Draws:
    """The number of draws of a batch."""

    of: tuple[int, int, int] | None = None
    count = 0


class _DrawsOfThread(_Draws, threading.local):
    pass


# A worker process has one batch, whatever thread of the user's draws; threads that help it, and all threads elsewhere,
# have their own.
_draws_of_process, _draws_of_thread = _Draws(), _DrawsOfThread()
_seeded_by_user: Any = None  # the batch in which user code has called tf.random.set_seed
_is_followed = _has_told = False


def follow() -> Watch:
    """Seed the numbers of TensorFlow in batches of this process, from the moment when it is imported."""
    return Watch("tensorflow", _replace)


def _replace(tensorflow: ModuleType) -> None:
    global _is_followed
    if _is_followed or not hasattr(tensorflow, "random"):
        return  # another module of this name, such as a stub
    try:
        drawing = import_module("tensorflow.python.ops.gen_random_ops")
        eager = import_module("tensorflow.python.eager.context")
        replacements = _replacements()
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
    """Return what draws without a state, by the name of what it stands in for; the seed comes first.

    Raises:
        AttributeError, ImportError: This TensorFlow has it elsewhere.
    """
    plain = import_module("tensorflow.python.ops.gen_stateless_random_ops")
    shaped = import_module("tensorflow.python.ops.stateless_random_ops")
    array_ops = import_module("tensorflow.python.ops.array_ops")

    def after_shape(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda seed, shape, *arguments, **named: function(shape, seed, *arguments, **named)

    def gamma(seed: Any, shape: Any, alpha: Any, **named: Any) -> Any:
        whole = array_ops.concat([shape, array_ops.shape(alpha)], 0)  # the one with a state takes that of each alpha
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
    """Return an operation that draws the numbers of the batch that is computed here."""

    @functools.wraps(original)
    def draw(*arguments: Any, seed: Any = 0, seed2: Any = 0, **named: Any) -> Any:
        of = context.seeded_batch()
        if of is not None and of is not _seeded_by_user:
            if eager.executing_eagerly():
                return by(_next_seed(of), *arguments, **named)
            _tell_of_function()
        return original(*arguments, seed=seed, seed2=seed2, **named)

    return draw


def _next_seed(of: tuple[int, int, int]) -> list[int]:
    is_of_process = context.process_info() is not None and not context.is_helper()
    draws = _draws_of_process if is_of_process else _draws_of_thread
    if draws.of is not of:  # each batch makes its own, also one that is computed again
        draws.of, draws.count = of, 0
    draws.count += 1
    return [hash(tuple(of)), draws.count]


def _set_seed(original: Callable[[Any], None], seed: Any) -> None:
    global _seeded_by_user
    original(seed)
    _seeded_by_user = context.seeded_batch()


def _tell_of_function() -> None:
    global _has_told
    if not _has_told:
        _has_told = True
        log.warn(
            "the source draws from tf.random inside of a tf.function (or of what tf.data maps), whose seed is fixed "
            f"when it is traced: these numbers are not seeded for each batch. {_HELP[0].capitalize()}, as arguments "
            "of the function, too",
            *_HELP[1:],
        )


class TrainersNumbers:
    """The state of TensorFlow's generator in the trainer, to be put back after a batch was computed there."""

    def __init__(self) -> None:
        eager = sys.modules.get("tensorflow.python.eager.context") if _is_followed else None
        self._context: Any = None if eager is None else eager.context()
        if self._context is not None:
            self._seed, self._rng = self._context._seed, getattr(self._context, "_rng", None)
            self._state = None if self._rng is None else self._rng.getstate()

    def restore(self) -> None:
        """Put it back."""
        if self._context is not None:
            self._context._seed = self._seed
            if self._rng is not None:
                self._rng.setstate(self._state)
                self._context._rng = self._rng
