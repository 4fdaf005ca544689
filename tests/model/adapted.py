"""Functions for the programs of the player with asyncio, torch, JAX and Keras."""

import asyncio
import contextlib
import functools
import os

from model.elements import RAISED, Failed
from model.program import END, plain

os.environ.setdefault("KERAS_BACKEND", "torch")  # read by the first import of Keras


class Awaited:
    """The batches of ``async for``, each requested in an event loop."""

    def __init__(self, loader):
        self._batches = aiter(loader)

    def __next__(self):
        found = _event_loop().run_until_complete(self._next())
        if found is END:
            raise StopIteration
        return found

    async def _next(self, after_s=None):
        try:
            async with asyncio.timeout(after_s):
                return await anext(self._batches)
        except StopAsyncIteration:
            return END

    def shared(self, count):
        """Return the batches of several tasks that share the iterator, in any order."""

        async def together():
            return await asyncio.gather(*(self._outcome() for _ in range(count)))

        return sorted(_event_loop().run_until_complete(together()), key=repr)

    async def _outcome(self):
        try:
            return plain(await self._next())
        except RAISED as error:
            return Failed(type(error).__name__, str(error))

    def cancelled(self, after_s):
        """Return the next batch, although the first tasks that wait for it are cancelled."""
        for _ in range(3):
            with contextlib.suppress(TimeoutError):
                return _event_loop().run_until_complete(self._next(after_s))
        return next(self)


@functools.cache
def _event_loop():
    return asyncio.new_event_loop()


class _Copies:
    """A stand-in for a device of `mpqueue.torch.prefetch`: a copy is done at once."""

    def start(self, batch):
        from mpqueue.frameworks.torch.prefetching import _Moving

        return _Moving(batch.copy(), batch, None)

    def finish(self, moving):
        return moving.batch

    def is_done(self, moving):
        return True

    def release(self, moving):
        moving.host = None


def on_device(loader, depth):
    """Return the batches of a loader on a stand-in for a device."""
    from mpqueue.frameworks.torch.prefetching import DevicePrefetcher

    return DevicePrefetcher(loader, "meta", _Copies(), depth)


@functools.cache
def _recorder():
    """Return the class of a model of Keras that records its batches. Batches of evaluations are in lists."""
    import keras

    class Recorder(keras.Model):
        def call(self, x):
            return x

        def train_step(self, data):
            self.seen.append(plain(data[0]))
            return {}

        def test_step(self, data):
            self.seen.append([plain(data[0])])
            return {}

        def predict_step(self, data):
            self.seen.append(plain(data[0]))
            return data[0]

    return Recorder


def fitted(way, loader, data, most, at, builds, **options):
    """Return the batches that a call of Keras gets, with its error; and the state after batch ``at`` of a fit.

    It stops after ``most`` batches. With ``builds``, Keras first takes a batch ahead, to build the model.
    """

    def after_batch(batch, logs):
        num_steps.append(batch)
        if len(num_steps) == at:
            states.append(loader.state_dict())
        model.stop_training = len(num_steps) == most

    model, num_steps, states = _recorder()(), [], []
    model.seen, model.built = [], not builds
    model.compile("sgd")
    if way == "fit":
        from keras.callbacks import LambdaCallback

        options["callbacks"] = [LambdaCallback(on_train_batch_end=after_batch)]
    try:
        getattr(model, way)(data, verbose=0, **options)
    except RAISED as error:
        model.seen.append(Failed(type(error).__name__, str(error).partition(", and the first epoch of")[0]))
    return model.seen, states
