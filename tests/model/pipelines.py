"""Pipelines as plain data: ``(root, link, link, ...)``. The model has a stage for each; the product's code is written.

A root is ``("range", 9)``, ``("list", 9)``, ``("index", source)``, ``("stream", source)``, or a join of pipelines:
``("zip", pipelines)``, ``("concatenate", pipelines)``, ``("mix", pipelines, schedule, stop, names)``.
"""

from model import functions, stages


def rows_plain(row):
    """Return a row of `pack` as tuples."""
    plain = tuple(tuple(int(each) for each in row[name]) for name in ("tokens", "segment_ids", "positions"))
    if "part" not in row:
        return plain
    return (*plain, *(tuple(int(each) for each in part) for part in row["part"]), tuple(row["name"]))


def stage_of(pipeline, before=0):
    """Return the last stage of a pipeline, with stages numbered from ``before`` on."""
    stage = _root_of(pipeline[0], before)
    for index, link in enumerate(pipeline[1:], 1):
        if link[0] == "sort":  # its keys do not depend on the rest of the tree
            stage = stages.Picked(stage.stage_index + 1, [stage], stages.sorted_by(stage_of(pipeline[:index]), link[1]))
        elif link[0] == "cache":  # neither do its elements
            stage = stages.Cache(stage.stage_index + 1, [stage_of(pipeline[:index])])
        else:
            stage = _linked(stage, *link)
    return stage


def _root_of(root, before):
    name, given, *rest = root
    if name in {"zip", "concatenate", "mix"}:
        inputs = []
        for each in given:
            inputs.append(stage_of(each, before))
            before = inputs[-1].stage_index + 1
        kind = {"zip": stages.Zip, "concatenate": stages.Concatenate, "mix": stages.Mix}[name]
        return kind(before, inputs, *rest)
    if name == "stream":
        return stages.Stream(before, [], given)
    return stages.Source(before, [], {"range": range, "list": letters}.get(name, lambda source: source)(given))


def letters(length):
    """Return the samples of a list."""
    return [f"sample {number}" for number in range(length)]


def _linked(stage, name, *given):
    stage_index = stage.stage_index + 1
    if name == "shuffle":
        return stages.Picked(stage_index, [stage], stages.shuffled_whole)
    if name == "split":
        return stages.Picked(stage_index, [stage], stages.part_of_split(*given))
    if name == "pack":
        function, *rest = given
        packed = stages.Pack(stage_index + 1, [stages.Map(stage_index, [stage], function)], *rest)
        return stages.Map(stage_index + 2, [packed], rows_plain)
    kind = "".join(word.title() for word in name.split("_"))  # "flat_map" is `stages.FlatMap`
    return getattr(stages, kind)(stage_index, [stage], *given)


def code_of(pipeline):
    """Return the expression that builds a pipeline with the product."""
    name, given, *rest = pipeline[0]
    if name in {"zip", "concatenate"}:
        text = f"Dataset.{name}({', '.join(map(code_of, given))})"
    elif name == "mix":
        schedule, stop, names = rest
        inputs = [code_of(each) for each in given]
        if names:
            named = [(start, dict(zip(names, weights, strict=True))) for start, weights in schedule]
            parts = zip(names, inputs, strict=True)
            datasets = "{" + ", ".join(f"{part!r}: {each}" for part, each in parts) + "}"
        else:
            named = [(start, list(weights)) for start, weights in schedule]
            datasets = f"[{', '.join(inputs)}]"
        weights = named[0][1] if len(named) == 1 else named
        text = f"Dataset.mix({datasets}, weights={weights!r}, stop={stop!r})"
    elif name == "range":
        text = f"Dataset.range({given})"
    else:
        text = f"Dataset({f'letters({given})' if name == 'list' else repr(given)})"
    return text + "".join(_code_of_link(*link) for link in pipeline[1:])


def _code_of_link(name, *given):
    if name in {"map", "filter"}:
        function, threads, *with_id = given
        option = "concurrency" if type(function) is functions.InCoroutine else "threads"
        more = f", {option}={threads}" * (threads > 1) + ", with_id=True" * any(with_id)
        return f".{name}({function!r}{more})"
    if name == "buffer":
        return f".shuffle(buffer={given[0]})"
    if name == "blocks":
        return f".shuffle(block={given[0]}, blocks={given[1]})"
    if name == "cache":
        return f".cache({'folder' * given[0]}{f', max_bytes={given[1]}' if any(given[1:]) else ''})"
    if name == "split":
        low, high, seed = given
        return f".split([{low}, {high - low}, {1 - high}], seed={seed})[1]"
    if name == "scan":
        return f".scan(0, {given[0]!r})"
    if name == "batch":
        size, drops, collate = given
        passed = functions.COLLATE.get(collate, collate)
        return f".batch({size}, drop_last={drops}" + ("" if passed is None else f", collate={passed!r}") + ")"
    if name == "window":
        return ".window({}, {}, drop_last={})".format(*given)
    if name == "bucket":
        function, boundaries, sizes, most, drops, collate = given
        bounds = f"batch_sizes={sizes}" if sizes else f"max_tokens={most}"
        return f".bucket({function!r}, {boundaries}, {bounds}, drop_last={drops}, collate={collate!r})"
    if name == "pack":
        function, length, strategy, bins, long = given
        whole = ", whole=('part', 'name')" * isinstance(function, functions.Document)
        rows = f", bins={bins}" * (strategy == "best_fit")
        fill = f"{length}, strategy={strategy!r}{rows}, long={long!r}{whole}"
        return f".map({function!r}).pack({fill}).map(rows_plain)"
    return f".{name}({', '.join(repr(each) for each in given if each is not None)})"
