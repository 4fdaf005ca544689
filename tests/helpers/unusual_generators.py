"""Generators of Python with unusual states."""

import random


class Wrapped(random.Random):
    """A generator with a state of another form than the state of its base class."""

    def getstate(self):
        return "wrapped", super().getstate(), {"number": 1}

    def setstate(self, state):
        super().setstate(state[1])


class Stateless(random.Random):
    """A generator that does not return its state."""

    def getstate(self):
        raise NotImplementedError("no state")
