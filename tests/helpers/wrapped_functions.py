"""Functions of the package that a test replaces by ones that also call the original."""


def wrap(monkeypatch, position, name, wrapper):
    """Replace a function by a call of ``wrapper``, with the original function and the arguments."""
    original = getattr(position, name)
    monkeypatch.setattr(position, name, lambda *args, **kwargs: wrapper(original, *args, **kwargs))


def recorded(monkeypatch, position, name):
    """Return a list that gets the arguments of each call of a function, after the call."""
    calls = []

    def record(original, *args):
        result = original(*args)
        calls.append(args)
        return result

    wrap(monkeypatch, position, name, record)
    return calls
