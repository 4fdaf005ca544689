"""Random pipelines, loaders and operations, as plain data: a `model.playing.Play` for each seed."""

import random
from dataclasses import astuple
from importlib.util import find_spec

from model import enqueuing, frameworks, serving  # noqa: F401 - they add front ends
from model import functions as f
from model.elements import Run
from model.pipelines import stage_of
from model.playing import FRONTS, TORCH_FRONTS, Play, fronts  # noqa: F401 - of all modules
from model.windows import Balance

WEIGHTS = {1: [(1,)], 2: [(1, 1), (3, 1), (1, 0), (5, 3)], 3: [(2, 1, 1), (5, 2, 1), (1, 0, 1), (6, 1, 1)]}
NAMES = ("web", "code", "books")
_HAS_SCIPY = find_spec("scipy") is not None  # for sparse rows


class Pipeline:
    """A pipeline that grows link by link.

    Args:
        chosen: The random generator.
        kinds: The random numbers that functions may draw.
        may_raise: Samples may raise.
        mark: The name of a file. While it exists, a fatal sample kills its worker; empty: no sample is fatal.
        focus: Features that are drawn more often than others.
    """

    def __init__(self, chosen, kinds, may_raise, mark, focus):
        self.chosen, self.kinds, self.may_raise, self.mark, self.focus = chosen, kinds, may_raise, mark, focus
        self.links, self.features = [], set()
        self.is_stream = self.is_batched = self.is_merged = self.is_endless = self.raises = self.draws_order = False

    def salt(self):
        return self.chosen.randrange(50)

    def draws(self):
        """Return the random numbers that a function draws."""
        return self.chosen.choice(["", "r", self.kinds, self.kinds])

    def add(self, feature, *link, **facts):
        self.features.add(feature)
        self.links.append(link)
        for name, value in facts.items():
            setattr(self, name, value)

    @property
    def data(self):
        return tuple(self.links)

    def one_of(self, names):
        return _one_of(self.chosen, names, self.focus)


def _one_of(chosen, names, focus):
    favoured = [name for name in names if name in focus]
    return chosen.choice(favoured if favoured and chosen.random() < 0.6 else names)


def pipeline(chosen, kinds="r", most=5, *, may_raise=True, streams=None, depth=0, mark="", focus=()):
    """Return a random pipeline; ``streams=False``: it has an index."""
    made = Pipeline(chosen, kinds, may_raise, mark, focus)
    join = chosen.random() < (0.1 if depth else 0.8 if JOINS & set(focus) else 0.35)
    if join:
        _join(made, streams, depth)
    else:
        _root(made, streams, depth)
    for _ in range(chosen.randrange(most + 1)):
        _link(made, streams)
    if made.is_endless and (made.is_stream or depth):
        made.add("take", "take", chosen.choice([7, 30]), is_endless=False)
    return made


def _root(made, streams, depth):
    chosen = made.chosen
    length = chosen.choice([3, 8, 20, 33, 60])
    name = chosen.choice(["range", "range", "list", "index", "index"] + ["shards", "stateful"] * (streams is not False))
    if name == "index":
        raises = made.may_raise and chosen.random() < 0.3
        kind = chosen.choice([f.Samples, f.Samples, f.AtOnce, f.InBlocks])
        made.raises |= raises
        kinds = made.draws() if kind is f.Samples else ""
        if depth == 0 and kind is f.Samples and len(made.kinds) > 1 and chosen.random() < 0.2:
            made.add("held-generator", "index", f.Holding(length, kinds, raises, "0.0."))
            made.add("cache", "cache", chosen.random() < 0.5)
        else:
            names = {f.Samples: "source", f.AtOnce: "getitems", f.InBlocks: "get_blocks"}
            made.add(names[kind], "index", kind(length, kinds, raises))
    elif name == "shards":
        made.add("generator", "stream", f.Shards(length, made.draws()), is_stream=True)
    elif name == "stateful":
        raising = f.StatefulShards(length, made.salt())
        if not made.may_raise:
            return _root(made, streams, depth)
        made.add("stateful-source", "stream", raising, is_stream=True, raises=True)
    else:
        made.add(name, name, length)


def _join(made, streams, depth):
    chosen = made.chosen
    name = made.one_of(["zip", "concatenate", "mix", "mix"])
    count = chosen.randint(1, 3)
    options = {"may_raise": made.may_raise, "streams": streams, "mark": made.mark, "focus": made.focus}
    inputs = [pipeline(chosen, made.kinds, 2, depth=depth + 1, **options) for _ in range(count)]
    if name == "mix" and any(not each.is_stream and not _length(each) for each in inputs):
        return _root(made, streams, depth)
    for each in inputs:
        made.features |= each.features
        made.is_stream |= each.is_stream
        made.is_batched |= each.is_batched
        made.is_merged |= each.is_merged
        made.raises |= each.raises
        made.draws_order |= each.draws_order
    datas = [each.data for each in inputs]
    if name == "mix":
        stop = chosen.choice(["first", "first", "all", "never"])
        names = NAMES[:count] if chosen.random() < 0.5 else ()
        weights = [(0, chosen.choice(WEIGHTS[count]))]
        if chosen.random() < 0.3:
            weights.append((chosen.randint(1, 20), chosen.choice(WEIGHTS[count])))
            made.features.add("schedule")
        endless = stop == "never"
        made.features.add(f"mix-{stop}")
        made.add("mix", "mix", tuple(datas), tuple(weights), stop, names, is_endless=endless)
        made.draws_order = True
    else:
        made.add(name, name, tuple(datas))
        made.is_merged |= name == "zip"
    return None


def _told(chosen, kinds):
    """Return a pipeline that reads shared memory, which the program changes. No stage holds elements for later."""
    made = Pipeline(chosen, kinds, False, "", ())
    if chosen.random() < 0.3:
        made.add("generator", "stream", f.Shards(20, made.draws()), is_stream=True)
    else:
        made.add("range", "range", chosen.choice([8, 20, 33]))
    names = chosen.choices(["map", "filter", "batch"], k=chosen.randrange(4))
    names.insert(chosen.randint(0, len(names)), "told")
    for name in names:
        if name == "told":
            made.add(name, "map", f.Told(), 1, False)
        elif name == "map":
            made.add(name, name, f.Drawing(made.salt(), made.draws()), 1, False)
        elif name == "filter":  # which does not depend on the memory
            made.add(name, name, f.KeptByDraw(made.salt(), made.kinds), 1, is_stream=True)
        else:
            collate = f.Collating(made.draws())
            made.add(name, name, chosen.randint(1, 4), chosen.random() < 0.3, collate, is_batched=True)
    return made


def _drawn_in_blocks(chosen, kinds):
    """Return a pipeline of a source that draws for the blocks that it reads, and for each batch."""
    made = Pipeline(chosen, kinds, False, "", ())
    made.add("get_blocks", "index", f.DrawnInBlocks(chosen.choice([8, 20, 33, 60]), chosen.choice(["r", kinds])))
    made.add("drawn-rows", "blocks", *_blocks(chosen), draws_order=True)
    collate = f.Collating(made.draws())
    made.add("blocks", "batch", chosen.randint(1, 5), chosen.random() < 0.3, collate, is_batched=True, is_merged=True)
    return made


def _length(made):
    length = stage_of(made.data).length(Run(0, 0))
    return 1 if length is None else length


JOINS = {"zip", "concatenate", "mix"}
LINKS = ["map", "map", "map", "filter", "flat_map", "shuffle", "buffer", "batch", "ragged", "sparse", "bucket", "pack", "window",
         "take", "skip", "enumerate", "repeat", "cache", "scan", "take_while", "split", "sort", "blocks"]  # fmt: skip
STREAM_LINKS = {"filter", "flat_map", "buffer", "bucket", "pack", "scan", "take_while"}
SEARCHING = {"filter", "flat_map", "bucket", "pack", "take_while", "cache"}  # would search an endless lane forever
# Elements of several samples are often held after the stages that make them.
GROUPING, HOLDING = {"batch", "bucket", "pack", "window", "zip", "scan"}, ["cache", "buffer", "flat_map"]
INDEX_LINKS = {"shuffle", "split", "sort", "blocks"}


def _link(made, streams):
    chosen = made.chosen
    groups = made.links[-1][0] in GROUPING and chosen.random() < 0.4
    name = made.one_of(HOLDING if groups else LINKS)
    if (streams is False and name in STREAM_LINKS) or (name in INDEX_LINKS and (made.is_stream or made.is_endless)):
        return
    if made.is_endless and name in SEARCHING:
        return
    raises = made.may_raise and chosen.random() < 0.25
    if name in STREAM_LINKS:
        made.is_stream = True
    salt = made.salt()
    if name == "map":
        function = f.Raising(salt, made.draws()) if raises else f.Drawing(salt, made.draws(), chosen.choice([1, 3]))
        made.raises |= raises
        with_id = not made.is_merged and chosen.random() < 0.2
        function = f.WithId(salt) if with_id else function
        if made.mark and chosen.random() < 0.5:
            function = f.Fatal(function, salt, made.mark)
            made.features.add("fatal")
        threads = 2 if chosen.random() < 0.15 and set(getattr(function, "kinds", "")) <= {"r"} else 1
        made.add("with_id" if with_id else "map", "map", function, threads, with_id)
        made.features |= {"threads"} if threads > 1 else set()
    elif name == "filter":
        function = (
            f.RaisingFilter(salt)
            if raises
            else chosen.choice([f.Kept(salt), f.KeptByDraw(salt, chosen.choice(["r", made.kinds]))])
        )
        made.raises |= raises
        threads = 2 if chosen.random() < 0.15 and set(getattr(function, "kinds", "")) <= {"r"} else 1
        made.add("filter", "filter", function, threads)
    elif name == "flat_map":
        function = chosen.choice([f.BatchSamples(salt), f.Restarting(salt)])
        if made.may_raise and chosen.random() < 0.6:
            function, made.raises = f.Items(salt, made.draws()), True
        made.add("flat_map", "flat_map", function, is_batched=False)
    elif name in {"shuffle", "enumerate"}:
        made.add(name, name)
        made.draws_order |= name == "shuffle"
    elif name == "blocks":
        made.add("blocks", "blocks", *_blocks(chosen), draws_order=True)
    elif name == "buffer":
        made.add("buffer", "buffer", chosen.choice([1, 2, 5, 9]))
    elif name == "batch":
        given = chosen.randint(1, 4), chosen.random() < 0.3, f.Collating(made.draws())
        made.add("batch", "batch", *given, is_batched=True, is_merged=True)
    elif name == "window":
        size = chosen.randint(1, 4)
        made.add("window", "window", size, chosen.randint(1, size), chosen.random() < 0.3, is_merged=True)
    elif name in {"ragged", "sparse"}:
        if not made.is_batched and (name == "ragged" or _HAS_SCIPY):
            _unlike(made, name)
    elif name == "bucket":
        by = ([3, 2, 1], None) if chosen.random() < 0.5 else (None, 12)
        given = chosen.random() < 0.3, f.Collating(made.draws())
        made.add("bucket", "bucket", f.Sized(salt), [3, 6], *by, *given, is_batched=True, is_merged=True)
    elif name == "pack":
        if made.is_batched:
            return
        length, strategy = chosen.randint(1, 9), chosen.choice(["best_fit", "concatenate"])
        is_whole = strategy == "best_fit" and random.Random(f"{salt} {length}").random() < 0.5
        function = f.Document(salt) if is_whole else f.Sequence(salt)
        given = chosen.randint(1, 3), chosen.choice(["cut", "drop"])
        made.add("pack", "pack", function, length, strategy, *given, is_merged=True)
        made.features |= {"whole"} if is_whole else set()
    elif name == "take":
        made.add("take", "take", chosen.choice([0, 5, 17, 40]), is_endless=False)
    elif name == "skip":
        made.add("skip", "skip", chosen.choice([0, 1, 5, 12]))
    elif name == "repeat":
        times = chosen.choice([0, 1, 2, 3, None])
        made.add("repeat", "repeat", times)
        made.is_endless |= times is None
    elif name == "cache":
        is_shared = chosen.random() < 0.5
        # Small bounds: several caches of a play compete for the folder, and most elements are stored nowhere.
        bound = [chosen.choice([None, 2000, 20_000])] if is_shared else []
        made.add("cache(folder)" if is_shared else "cache", "cache", is_shared, *bound, draws_order=False)
    elif name == "scan":
        made.add("scan", "scan", f.Running(salt))
        made.raises = True
        if not made.may_raise:
            made.links.pop()
    elif name == "take_while":
        made.add("take_while", "take_while", f.Early(salt))
    elif name == "split" and not made.draws_order:
        low = chosen.choice([0.125, 0.25, 0.5])
        made.add("split", "split", low, low + 0.4, salt)
    elif name == "sort" and not (made.raises or made.draws_order):
        made.add("sort", "sort", f.Hashed(salt))


def _unlike(made, name):
    """Add batches of samples of different lengths, or of sparse rows."""
    function, collate = (f.Sequence, f.ragged) if name == "ragged" else (f.SparseRow, f.stacked)
    salt = made.salt()
    if name == "ragged" and _swaps(salt, made.features):
        function = f.Swapped
    made.add("map", "map", function(salt), 1, False)
    size, drops = made.chosen.randint(1, 4), made.chosen.random() < 0.3
    made.add(name, "batch", size, drops, collate, is_batched=True, is_merged=True)


def _swaps(salt, features):
    """Return whether the arrays of ragged batches have mixed byte orders."""
    features |= {"swapped"} if salt % 2 else set()
    return salt % 2


def _blocks(chosen):
    """Return the size of blocks, and the number of blocks in a group."""
    return chosen.choice([1, 2, 3, 5, 8, 40]), chosen.choice([1, 2, 3, 16])


def play(seed, front="loader", focus=()):
    """Return the play of a seed, and its features and operations. The members of a focus are more frequent."""
    if front in TORCH_FRONTS:
        from model import torch_drawing  # imports torch

        return torch_drawing.drawn(seed, front, focus)
    chosen = random.Random(seed)
    has = FRONTS[front]
    world, backends = chosen.choice(has.worlds), chosen.choice(has.backends)
    kinds = "rpn" if len(backends) == 1 else "r"
    config = chosen.choice([0, 0, 1, 2, 3]), chosen.choice(backends), world
    features = {front, *backends, f"workers={min(config[0], 2)}"} | ({"shard"} if world > 1 else set())
    mark = f"mpqueue-model-{seed}" if backends == ("process",) else ""
    if chosen.random() < 0.2 and not has.streams:
        source, options, raises = _plain(chosen, kinds, features, has)
        is_stream = False
    else:
        source, options, raises, is_stream = _dataset(chosen, kinds, features, world, has, mark, focus)
    if has.options is not None:
        options = {name: value for name, value in options.items() if name in has.options}
    is_apart = world > 1 and front == "loader" and not is_stream
    if (world == 1 or is_apart) and raises and _may(has, "skips") and chosen.random() < 0.6:
        options["skips"] = True
        features.add("on_error")
    if (
        chosen.random() < 0.5
        and _may(has, "exclude")
        and not is_stream
        and isinstance(source, tuple)
        and source[0][0] == "range"
        and len(source) < 3
    ):
        options["exclude"] = [0, 1]
        features.add("exclude=")
    if front == "loader" and len(backends) == 1 and chosen.random() < 0.6:
        options["start_method"] = "fork"
        features.add("snapshots")
    is_batched = "batch_size" in options or (isinstance(source, tuple) and source[-1][0] == "batch" and not is_stream)
    if front == "loader" and kinds == "r" and is_batched and not features & {"getitems", "get_blocks", "__getitems__"}:
        options["threads"] = chosen.choice([1, 1, 2, 4])
        features |= {"threads="} if options["threads"] > 1 else set()
    if _has(has, "journal") and chosen.random() < 0.5:
        options["journal"] = True
        features.add("journal")
    if front in {"loader", "server"} and random.Random(f"{seed} awaits").random() < (0.6 if "awaits" in focus else 0.2):
        source, options = _awaiting(source, options, features)
    if front in {"loader", "server"} and not is_stream and (front == "loader" or world > 1):
        _balance(random.Random(f"{seed} balance"), source, options, features, focus)
    names = has.operations
    if "hook" in features and has.options is None:  # of one rank, with epochs that end
        config, names = (*config[:2], 1), names & ENDING
    if is_apart and "skips" in options:
        names &= APART
    if "told" in features:
        names -= {"compute"}  # with the present content of the memory
    made = operations(chosen, names, focus)
    fatal = mark if "fatal" in features else ""
    return Play(seed, source, options, front, config, backends, made, fatal), features, {name for name, *_ in made}


def _awaiting(source, options, features):
    """Return a source with coroutines in place of its functions that draw no shared random numbers."""
    if "told" in features:  # elements that are computed ahead have the content of their time
        return source, options
    if isinstance(source, tuple):
        links = [_awaiting_link(*link) for link in source[1:]]
        if links == [*source[1:]]:
            return source, options
        features.add("awaits")
        return (source[0], *links), options
    kind = {f.Samples: f.Awaiting, f.AtOnce: f.AwaitingAtOnce}.get(type(source))
    if kind is None or not set(source.kinds) <= {"r"} or not ("batch_size" in options or "batch_sampler" in options):
        return source, options
    features.add("awaits=")
    features.discard("threads=")
    rest = {name: value for name, value in options.items() if name != "threads"}
    return kind(*astuple(source)), rest | {"concurrency": 1 + source.length % 5}


def _awaiting_link(name, *given):
    """Return a stage that calls a coroutine function, if its function may be one."""
    if name not in {"map", "filter"} or not set(getattr(given[0], "kinds", "rpn")) <= {"r"}:
        return name, *given
    function, threads, *rest = given
    return name, f.InCoroutine(function), max(2, threads), *rest


def _balance(chosen, source, options, features, focus):
    """Divide the samples of a source that is cut into batches of a fixed size, in some plays."""
    is_cut = source[-1][0] == "batch" if isinstance(source, tuple) else "batch_size" in options
    if not is_cut or {"sampler", "batch_sampler"} & {*options} or chosen.random() > (1 if "balance" in focus else 0.25):
        return
    if isinstance(source, tuple) and any(f"('{name}'," in repr(source[:-1]) for name in ("batch", "window")):
        return  # a loader divides no batches
    count = _num_ids(source) if chosen.random() < 0.5 else 0
    salt, accumulate = chosen.randrange(50), chosen.choice([1, 1, 2, 3])
    steps, group = chosen.choice([(1, None), (2, None), (3, None), (5, None), (1, 1), (1, 2), (1, 4)])
    tokens = f.Cost(salt + 1) if chosen.random() < 0.4 else None
    options["balance"] = Balance(f.Cost(salt), tokens, steps, accumulate, group, count)
    features.add("balance")
    features |= {"group="} if group else set()
    features |= {"accumulate="} if accumulate > 1 else set()


def _num_ids(source):
    """Return the number of samples of a source if their ids are the numbers from 0 on; otherwise 0."""
    if not isinstance(source, tuple):
        return len(source)
    (name, given, *_), links = source[0], source[1:]
    if name not in {"range", "list", "index"} or any(link == "zip" for link, *_ in links):
        return 0
    return given if isinstance(given, int) else len(given)


ENDING = {"next", "finish", "statistics", "kill", "pause", "interrupt", "clock", "save", "load", "older", "last",
          "cancel", "fit"}  # fmt: skip
APART = {"next", "finish", "again", "statistics", "kill", "pause", "clock", "stop", "save", "load", "older", "weights",
         "swap", "memory", "seek", "explain", "compute", "last"}  # fmt: skip


def _may(front, option):
    return front.options is None or option in front.options


def _has(front, option):
    return option in (front.options or ())


def _plain(chosen, kinds, features, front):
    """Return a source without stages, with the options for its samples."""
    if chosen.random() < 0.15:
        features.add("hook")
        features.discard("shard")
        return chosen.choice([f.Growing, f.Unseen])(chosen.choice([8, 20])), {"batch_size": 3}, False
    if chosen.random() < 0.1 and not _has(front, "journal"):  # a server is another process
        features.add("late-order")
        if front.options is None and chosen.random() < 0.3:
            features.add("hook")
            features.discard("shard")
            return f.DroppingOrder(chosen.choice([8, 20])), {}, False
        return f.LateOrder(chosen.choice([8, 20])), {"shuffle": chosen.random() < 0.5}, False
    raises = chosen.random() < 0.4
    kind = chosen.choice([f.Samples, f.AtOnce])
    length = chosen.choice([3, 8, 20, 33])
    features |= {"samples" if kind is f.Samples else "__getitems__"}
    source, options, way = kind(length, chosen.choice(["", kinds]), raises), {}, chosen.choice([0, 1, 2, 2, 3])
    if way == 0 or not _may(front, "batch_size"):
        options["shuffle"] = chosen.random() < 0.5
        return f.Samples(length, kinds, raises), options, raises
    if way == 3:
        options["batch_sampler"] = [
            chosen.choices(range(length), k=chosen.randint(1, 4)) for _ in range(chosen.randint(1, 9))
        ]
        features.add("batch_sampler")
    else:
        options["batch_size"], options["drop_last"] = chosen.randint(1, 4), chosen.random() < 0.3 and length > 16
        options["shuffle"] = way == 1 and chosen.random() < 0.6
        features |= (
            {"batch_size"}
            | ({"drop_last"} if options["drop_last"] else set())
            | ({"shuffle="} if options["shuffle"] else set())
        )
    if way == 2:
        options["sampler"] = chosen.choices(range(length), k=chosen.randint(17, 25))
        features.add("sampler")
        if chosen.random() < 0.5 and front.options is None:
            names = chosen.choice([("generator",), ("random", "numpy"), ("a.b", "a/b")])
            options["sampler"], options["drop_last"] = f.Shuffling(length, names), length > 16 and chosen.random() < 0.5
            features.add("drawing-sampler")
        if chosen.random() < 0.2:  # it orders the batches of the source
            return source, {"sampler": options["sampler"]}, raises
    if len(kinds) > 1 and kind is f.Samples and "loader" in features and chosen.random() < 0.3:
        features.add("held-generator")  # which threads share
        return f.Holding(*astuple(source)), options, raises
    options["collate"] = chosen.choice([f.stacked, f.Collating(""), f.Collating(kinds)])
    return source, options, raises


def _dataset(chosen, kinds, features, world, front, mark, focus):
    """Return a pipeline with the options that fit it."""
    length, least = 0, 1
    while length is not None and length < least:
        streams = front.streams if world == 1 or chosen.random() < 0.5 else False
        is_told = "loader" in features and chosen.random() < (0.6 if "told" in focus else 0.05)
        is_drawn = "loader" in features and chosen.random() < (0.6 if "drawn-rows" in focus else 0.05)
        if is_told or is_drawn:
            made = (_told if is_told else _drawn_in_blocks)(chosen, kinds)
        else:
            made = pipeline(chosen, kinds, streams=streams, mark=mark, focus=focus)
        stage = stage_of(made.data)
        length = stage.length(Run(0, 0)) if stage.is_indexed else None
        # A batch for each rank, of up to four after a load.
        least = 4 if world > 1 and made.data[-1][0] == "batch" and made.data[-1][2] else 1
        if front.streams and stage.is_indexed:
            length = 0
    features |= made.features
    links, options = list(made.data), {}
    if stage.is_indexed and not made.is_batched and chosen.random() < 0.7:
        if chosen.random() < 0.5 and length is not None:
            links.append(("shuffle",))
            features.add("shuffle")
        elif length is not None and chosen.random() < (0.5 if "blocks" in focus else 0.2):
            links.append(("blocks", *_blocks(chosen)))
            features.add("blocks")
        collate = f.stacked if _is_flat(links) else f.Collating(chosen.choice(["", kinds]))
        drops = length is not None and length >= 20 and chosen.random() < 0.3
        name = _one_of(chosen, ["batch"] * 5 + ["ragged", "sparse"][: 1 + _HAS_SCIPY], focus)
        if name != "batch":
            function, collate = (f.Sequence, f.ragged) if name == "ragged" else (f.SparseRow, f.stacked)
            salt = chosen.randrange(50)
            function = f.Swapped if name == "ragged" and _swaps(salt, features) else function
            links.append(("map", function(salt), 1, False))
        links.append(("batch", chosen.randint(1, 5), drops, collate))
        features |= {name} | ({"drop_last"} if drops else set())
    if not stage.is_indexed:
        options["lanes"] = 4 if world > 1 else chosen.choice([1, 2, 3, 5])
        features.add("lanes")
        if (world > 1 and not _has(front, "journal")) or chosen.random() < 0.3:
            options["epoch_batches"] = chosen.randint(2, 9)
            features.add("epoch_batches")
    return tuple(links), options, made.raises, not stage.is_indexed


def _is_flat(links):
    """Return whether the default collation makes arrays of the elements."""
    return links[0][0] == "range" and all(
        name in {"shuffle", "blocks", "take", "skip", "split"} for name, *_ in links[1:]
    )


def operations(chosen, names, focus=()):
    """Return operations with numbers that determine their details when they are played."""
    made = []
    for _ in range(chosen.randint(3, 12)):
        name = _one_of(chosen, sorted(names), focus)
        numbers = {
            "next": [chosen.randrange(5)], "load": [chosen.randrange(4), chosen.randrange(2), chosen.randrange(3)],
            "older": [chosen.randrange(4), chosen.randrange(2), chosen.randrange(3), chosen.randrange(6)],
            "explain": [chosen.randrange(3), chosen.randrange(50)], "compute": [chosen.randrange(3), chosen.randrange(50)],
            "seek": [chosen.randrange(3), chosen.randrange(50)], "exclude": [chosen.randrange(1000), chosen.randrange(9)],
            "child": [chosen.randrange(2, 15)], "finish": [chosen.randrange(1000), chosen.randrange(9)], "weights": [chosen.randrange(1000)], "kill": [chosen.randrange(3)], "interrupt": [chosen.randrange(30)],
            "other": [chosen.randrange(100)], "damage": [chosen.randrange(3), chosen.randrange(4), chosen.randrange(2)], "leave": [chosen.randrange(4)],
            "crash": [chosen.randrange(3), chosen.randrange(2)], "stop": [chosen.randrange(4)], "swap": [chosen.randrange(4)],
            "corrupt": [chosen.randrange(3), chosen.randrange(2), chosen.randrange(120)],
            "order": [chosen.randrange(2)], "epoch": [chosen.randrange(5)], "refuse": [chosen.randrange(8)],
            "cancel": [chosen.randrange(30)], "tasks": [chosen.randrange(2, 9)], "memory": [chosen.randrange(3), chosen.randrange(3)],
            "fit": [chosen.randrange(4), chosen.randrange(3), chosen.randrange(25), chosen.randrange(20), chosen.randrange(4)],
        }.get(name, [])  # fmt: skip
        made.append((name, *numbers))
        if chosen.random() < 0.6:
            made.append(("next", chosen.randrange(3)))
    return made
