"""Functions of the package that a test replaces by ones that also call the original."""


def wrap(monkeypatch, place, name, wrapper):
    """Replace a function by a call of ``wrapper``, with the original function and the arguments."""
    original = getattr(place, name)
    monkeypatch.setattr(place, name, lambda *args, **kwargs: wrapper(original, *args, **kwargs))


def recorded(monkeypatch, place, name):
    """Return a list that gets the arguments of each call of a function, after the call."""
    calls = []

    def record(original, *args):
        result = original(*args)
        calls.append(args)
        return result

    wrap(monkeypatch, place, name, record)
    return calls
