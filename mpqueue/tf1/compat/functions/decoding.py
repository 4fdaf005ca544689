"""Texts and files to values: CSV, raw bytes, JSON, the contents and the names of files, by the eager functions."""

from itertools import pairwise
from typing import Any, Final

from mpqueue.tf1.compat.functions.declare import public
from mpqueue.tf1.compat.functions.kernels import of_values, once
from mpqueue.tf1.compat.graph import Tensor, convert_to_tensor, custom, get_default_graph
from mpqueue.tf1.compat.ops import dtypes
from mpqueue.tf1.parsing import csv
from mpqueue.tf1.runs.rules import leading

_CSV_TYPES: Final = (dtypes.float32, dtypes.float64, dtypes.int32, dtypes.int64, dtypes.string)


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
    """CSV records as columns: one tensor per column, of the shape of ``records``.

    Raises:
        TypeError: A default of a type that columns do not have.
        ValueError: ``select_cols`` does not rise or fit, or a default has more than one value.

    While running, the `InvalidArgumentError` of `mpqueue.decode_csv`.
    """
    _check_columns(record_defaults, select_cols)
    if not len(record_defaults):
        raise ValueError("record_defaults is empty: decode_csv needs one default per column")
    with get_default_graph().name_scope(name or "DecodeCSV") as scope:
        texts = convert_to_tensor(records, dtypes.string, "records")
        options = (field_delim, use_quote_delim, na_value, select_cols)
        defaults = [_default(each, place) for place, each in enumerate(record_defaults)]
        described = once(defaults, lambda *rest: csv.checked_format(rest, *options))
        kernel = of_values(lambda texts, *rest: csv.decode(texts, described(*rest)))
        kinds = [(each.dtype.base_dtype, texts.known_dims) for each in defaults]
        return custom("DecodeCSV", [texts, *defaults], kinds, kernel, name=scope, rule=leading()).outputs


def _check_columns(record_defaults: Any, select_cols: Any) -> None:
    if select_cols is None:
        return
    if any(left >= right for left, right in pairwise(select_cols)):
        raise ValueError("select_cols is not strictly increasing.")
    if select_cols and select_cols[0] < 0:
        raise ValueError("select_cols contains negative values.")
    if len(select_cols) != len(record_defaults):
        raise ValueError("Length of select_cols and record_defaults do not match.")


def _default(value: Any, place: int) -> Tensor:
    default = convert_to_tensor(value, name=f"record_defaults_{place}")
    if default.dtype.base_dtype not in _CSV_TYPES:
        names = ", ".join(each.name for each in _CSV_TYPES)
        raise TypeError(f"record_defaults[{place}] has type {default.dtype.name}; a column is one of {names}")
    dims = default.known_dims
    if dims is not None and (len(dims) > 1 or dims not in {(), (None,), (0,), (1,)}):
        raise ValueError(f"record_defaults[{place}] has shape {default.shape}; give one value, or none")
    return default
