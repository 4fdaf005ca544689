"""Smaller plays that show the same difference: without operations, options, links and inputs, and with smaller numbers."""

from dataclasses import replace

from model.functions import BatchSamples, Hashed


def shrunk(play, fails, most=400):
    """Return the smallest play that makes a function return True, found in at most ``most`` tries."""
    tries = 0
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for candidate in _smaller(play):
            tries += 1
            if tries > most:
                return play
            if fails(candidate):
                play, is_smaller = candidate, True
                break
    return play


def _smaller(play):
    count = len(play.operations)
    size = count
    while size:
        for first in range(0, count, size):
            yield replace(play, operations=play.operations[:first] + play.operations[first + size :])
        size //= 2
    _, backend, world = play.config
    for config in ((0, "process", 1), (0, "process", world), (1, backend, world)):
        if config != play.config and config < play.config:
            yield replace(play, config=config)
    for name in play.options:
        if name != "lanes":
            yield replace(play, options={key: value for key, value in play.options.items() if key != name})
    if isinstance(play.source, tuple):
        for source in smaller_pipelines(play.source):
            yield replace(play, source=source)
    for at, (name, *numbers) in enumerate(play.operations):
        for position, number in enumerate(numbers):
            if isinstance(number, int) and number:
                less = [*numbers[:position], number // 2, *numbers[position + 1 :]]
                yield replace(play, operations=[*play.operations[:at], (name, *less), *play.operations[at + 1 :]])


def smaller_pipelines(source):
    """Yield pipelines with fewer stages or smaller numbers."""
    root, *links = source
    for at in reversed(range(len(links))):
        yield (root, *links[:at], *links[at + 1 :])
    if isinstance(root[1], tuple):
        name, inputs, *rest = root
        for each in inputs:
            yield (*each, *links)
        for at, each in enumerate(inputs):
            if len(inputs) > 1 and name != "mix":
                yield ((name, (*inputs[:at], *inputs[at + 1 :])), *links)
            for less in smaller_pipelines(each):
                yield ((name, (*inputs[:at], less, *inputs[at + 1 :]), *rest), *links)
        if name == "mix" and len(rest[0]) > 1:
            yield ((name, inputs, rest[0][:1], *rest[1:]), *links)
    elif root[0] not in {"range"}:
        yield (("range", 20), *links)
    elif root[1] > 3:
        yield ((root[0], root[1] // 2), *links)
    for at, link in enumerate(links):
        for less in _smaller_links(link):
            yield (root, *links[:at], less, *links[at + 1 :])


def _smaller_links(link):
    name, *given = link
    for at, each in enumerate(given):
        if type(each) is int and each > 1 and name != "bucket":
            yield (name, *given[:at], each // 2, *given[at + 1 :])
        elif each is True:
            yield (name, *given[:at], False, *given[at + 1 :])
        elif "kinds" in getattr(each, "_fields", ()) and each.kinds:
            yield (name, *given[:at], each._replace(kinds=""), *given[at + 1 :])
    if name == "map" and not isinstance(given[0], Hashed) and not given[2]:
        yield (name, Hashed(1), *given[1:])
    if name == "flat_map" and not isinstance(given[0], BatchSamples):
        yield (name, BatchSamples(1))
