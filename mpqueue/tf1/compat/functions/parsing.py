"""CSV records, Examples and SequenceExamples, parsed by the eager parsers in nodes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from mpqueue.examples import reading
from mpqueue.examples.example_plan import ExamplePlan, plan
from mpqueue.examples.features import FeatureKind, Spec, checked
from mpqueue.tf1.compat.functions.declare import public
from mpqueue.tf1.compat.functions.kernels import of_values, once
from mpqueue.tf1.compat.graph import (
    SparseTensor,
    Tensor,
    convert_to_tensor,
    custom,
    get_default_graph,
    get_static_value,
)
from mpqueue.tf1.compat.graph.make import array_of
from mpqueue.tf1.compat.ops import dtypes
from mpqueue.tf1.compat.ops.dims import Dims, merged
from mpqueue.tf1.compat.ops.dtypes import DType, as_dtype, int64, string
from mpqueue.tf1.compat.ops.infer import invalid
from mpqueue.tf1.parsing import csv, parse, sequence
from mpqueue.tf1.runs.rows import Rows, Value
from mpqueue.tf1.runs.rules import Call, Rule, leading, per_row

_CSV_TYPES: Final = (dtypes.float32, dtypes.float64, dtypes.int32, dtypes.int64, dtypes.string)

Features = Mapping[Any, Any]


class _Outputs:
    """The outputs of a parsing node: one tensor per feature, three for a sparse feature.

    Args:
        features: The features to parse.
        lead: The shape of the batch or list, which precedes the shape of each feature. None if unknown.
        lists: Whether the features are lists of a SequenceExample. Their length is ``lead``.
    """

    def __init__(self, features: tuple[Spec, ...], lead: Dims, *, lists: bool = False) -> None:
        self._specs, self._lead, self._lists = features, lead, lists

    def kinds(self) -> Iterator[tuple[DType, Dims]]:
        """Yield the type and shape of each tensor."""
        for spec in self._specs:
            dtype, lead = as_dtype(spec.dtype), self._lead
            if spec.kind is FeatureKind.VARLEN:
                rank = None if lead is None else len(lead) + 1
                yield from ((int64, (None, rank)), (dtype, (None,)), (int64, (rank,)))
            elif lead is None:
                yield dtype, None
            else:
                varies = (None,) if spec.kind is FeatureKind.SEQUENCE and not self._lists else ()
                yield dtype, (*lead, *varies, *spec.shape)

    def arrays(self, parsed: Features) -> Iterator[np.ndarray]:
        """Yield the values of the tensors from the result of a parser."""
        for spec in self._specs:
            value = parsed[spec.name]
            yield from (value if spec.kind is FeatureKind.VARLEN else [array_of(value)])

    def rows(self, parsed: Features) -> Iterator[np.ndarray | list[np.ndarray]]:
        """Yield the values of the tensors for each record, from the result of `reading.parse_apart`."""
        for spec in self._specs:
            value = parsed[spec.name]
            if spec.kind is FeatureKind.VARLEN:
                sparse = [reading.sparse_of_one(each) for each in value]
                yield from ([each[place] for each in sparse] for place in range(3))
            else:
                yield value

    def structured(self, tensors: Iterator[Tensor]) -> dict[Any, Any]:
        """Return the tensors by feature."""
        return {spec.name: self._one(spec, tensors) for spec in self._specs}

    def _one(self, spec: Spec, tensors: Iterator[Tensor]) -> Tensor | SparseTensor:
        if spec.kind is not FeatureKind.VARLEN:
            return next(tensors)
        return SparseTensor(next(tensors), next(tensors), next(tensors))


def _static(features: Any) -> Any:
    """Return the features with constants in place of default values that are tensors; other values unchanged."""
    if not isinstance(features, Mapping):
        return features
    return {key: _with_static_default(key, feature) for key, feature in features.items()}


def _with_static_default(key: Any, feature: Any) -> Any:
    default = getattr(feature, "default_value", None)
    if not isinstance(default, Tensor):
        return feature
    value = get_static_value(default)
    if value is None:
        raise ValueError(f"The default value of feature {key!r} must be a constant, got {default!r}")
    return feature._replace(default_value=value)


def _strings(value: Any, name: str) -> Tensor:
    return convert_to_tensor([] if value is None else value, string, name)


@public("parse_example(...)", like=parse.parse_example)
def parse_example(serialized: Any, features: Features, name: str | None = None, example_names: Any = None) -> Any:
    """Parse a batch of serialized Examples into one tensor, or sparse tensor, per feature.

    Returns: A dict with the keys of ``features``. `mpqueue.train.parse_example` documents the tensors and the errors.

    Raises:
        ValueError: ``features`` is empty, or a feature is invalid.
        TypeError: A feature has a type that Examples do not support, or a default of a different type.
    """
    constant_features = _static(features)
    specs = checked(constant_features)
    with get_default_graph().name_scope(name or "ParseExample"):
        inputs = [_strings(serialized, "serialized"), _strings(example_names, "names")]
        lead = inputs[0].known_dims
        if lead is not None and len(lead) > 1:
            raise ValueError(f"serialized must be a vector of serialized Examples, got shape {inputs[0].shape}")
        outputs = _Outputs(specs, lead)

        def compute(serialized: np.ndarray, names: np.ndarray) -> list[np.ndarray]:
            if serialized.ndim > 1:
                invalid(f"serialized must be a vector of serialized Examples, got shape {serialized.shape}")
            example_names = names if names.size else None
            return list(outputs.arrays(parse.parse_example(serialized, constant_features, example_names=example_names)))

        made = custom("ParseExampleV2", inputs, list(outputs.kinds()), of_values(compute), rule=per_row)
        return outputs.structured(iter(made.outputs))


@public("parse_single_example(...)", like=parse.parse_single_example)
def parse_single_example(
    serialized: Any, features: Features, name: str | None = None, example_names: Any = None
) -> dict[Any, Any]:
    """Parse one serialized Example into one tensor, or sparse tensor, per feature.

    Returns: A dict with the keys of ``features``; see `mpqueue.train.parse_single_example`.

    Raises:
        ValueError: As for `parse_example`, or ``serialized`` is not a scalar.
        TypeError: As for `parse_example`.
    """
    constant_features = _static(features)
    planned = once((), lambda: plan(constant_features))

    def parsed(serialized: bytes, label: Any) -> list[Features]:
        return [reading.parse_one(serialized, planned().by_key, label)]

    parts = [_Outputs(checked(constant_features), ())]
    with get_default_graph().name_scope(name or "ParseSingleExample"):
        label = _strings(example_names, "names")
        (result,) = _single("ParseSingleExample", serialized, label, parts, parsed, _apart(planned, parts[0]))
        return result


def _apart(planned: Callable[[], ExamplePlan], outputs: _Outputs) -> Rule:
    """Return the rule that parses many single Examples without names at once."""

    def rule(call: Call) -> Sequence[Value]:
        serialized, label = call.inputs
        # Names appear in the errors of single records, so with names each record is parsed on its own.
        if not isinstance(serialized, Rows) or serialized.rank != 0 or isinstance(label, Rows) or label.size:
            return per_row(call)
        return [Rows(each) for each in outputs.rows(reading.parse_apart([*serialized.values], planned()))]

    return rule


@public("parse_single_sequence_example(...)", like=sequence.parse_single_sequence_example)
def parse_single_sequence_example(
    serialized: Any,
    context_features: Features | None = None,
    sequence_features: Features | None = None,
    example_name: Any = None,
    name: str | None = None,
) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Parse one serialized SequenceExample into the features of its context and of its lists.

    Returns: Two dicts with the given keys; see `mpqueue.train.parse_single_sequence_example`.

    Raises:
        ValueError: Both dicts of features are empty, a feature is invalid, or ``serialized`` is not a scalar.
        TypeError: A feature has a type that Examples do not support, or a default of a different type.
    """
    features = _static(context_features), _static(sequence_features)

    def parsed(serialized: bytes, label: Any) -> Sequence[Features]:
        return sequence.parse_single_sequence_example(serialized, *features, example_name=label)

    specs = sequence.check_features(*features)
    parts = [_Outputs(specs[0], ()), _Outputs(specs[1], (None,), lists=True)]
    with get_default_graph().name_scope(name or "ParseSingleSequenceExample"):
        label = _strings(example_name, "debug_name")
        context, lists = _single("ParseSingleSequenceExample", serialized, label, parts, parsed)
        return context, lists


def _single(
    kind: str,
    serialized: Any,
    label: Tensor,
    parts: list[_Outputs],
    parsed: Callable[[bytes, Any], Sequence[Features]],
    rule: Rule = per_row,
) -> list[dict[Any, Any]]:
    """Create a node that parses one string, and return its features."""
    string_input = _strings(serialized, "serialized")
    merged(string_input.known_dims, ())

    def compute(serialized: np.ndarray, label: np.ndarray) -> list[np.ndarray]:
        if serialized.ndim:
            invalid(f"serialized must be a scalar string, got shape {serialized.shape}")
        features = parsed(serialized.item(), label.reshape(-1)[0] if label.size else None)
        return [array for part, values in zip(parts, features, strict=True) for array in part.arrays(values)]

    kinds = [each for part in parts for each in part.kinds()]
    made = custom(kind, [string_input, label], kinds, of_values(compute), rule=rule)
    tensors = iter(made.outputs)
    return [part.structured(tensors) for part in parts]


@public("decode_csv(...)", like=csv.decode_csv)
def decode_csv(
    records: Any,
    record_defaults: Any,
    field_delim: str = ",",
    use_quote_delim: bool = True,
    name: str | None = None,
    na_value: str = "",
    select_cols: Any = None,
) -> list[Tensor]:
    """Parse CSV records into columns: one tensor per column, of the shape of ``records``.

    Raises:
        TypeError: A default has a type that columns do not support.
        ValueError: ``select_cols`` is not strictly increasing or does not match the defaults, or a default has more
            than one value.

    When run, raises the `InvalidArgumentError` of `mpqueue.train.decode_csv`.
    """
    csv.checked_cols(select_cols, len(record_defaults))
    with get_default_graph().name_scope(name or "DecodeCSV") as scope:
        strings = convert_to_tensor(records, dtypes.string, "records")
        options = (field_delim, use_quote_delim, na_value, select_cols)
        defaults = [_default(each, place) for place, each in enumerate(record_defaults)]
        described = once(defaults, lambda *rest: csv.checked_format(rest, *options))
        kernel = of_values(lambda strings, *rest: csv.decode(strings, described(*rest)))
        kinds = [(each.dtype.base_dtype, strings.known_dims) for each in defaults]
        return custom("DecodeCSV", [strings, *defaults], kinds, kernel, name=scope, rule=leading()).outputs


def _default(value: Any, place: int) -> Tensor:
    default = convert_to_tensor(value, name=f"record_defaults_{place}")
    if default.dtype.base_dtype not in _CSV_TYPES:
        names = ", ".join(each.name for each in _CSV_TYPES)
        raise TypeError(f"The type of record_defaults[{place}] must be one of {names}, got {default.dtype.name}")
    dims = default.known_dims
    if dims is not None and (len(dims) > 1 or dims not in {(), (None,), (0,), (1,)}):
        raise ValueError(f"record_defaults[{place}] must have at most one value, got shape {default.shape}")
    return default
