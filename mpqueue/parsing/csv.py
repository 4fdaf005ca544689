"""CSV records to columns.

Two ways that give the same:

- Row by row (`_Rows`): a record is cut by `csv_fields`, a field converted by `number_text`. About 15 us for a record of
  20 columns; all errors come from here, so that the first bad field of the first bad record is the one that is named.
- All at once (`_cut_at_once`): where no record has quotes, line breaks or blanks, the delimiters are found by NumPy in
  one buffer, and all numbers are read by `number_columns`. About 1.2 us for such a record in a batch of 1,000. Fields
  that it does not understand are converted one by one; where a record does not fit at all, the rows take over.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpqueue.errors import InvalidArgumentError
from mpqueue.parsing import number_columns
from mpqueue.parsing.arguments import STRING, as_bytes, dtype_name, string_array, string_list
from mpqueue.parsing.csv_fields import BadField, cut, shown
from mpqueue.parsing.number_text import to_float, to_float32, to_int

_AT_ONCE_FROM = 256
"""Fields of a batch from which NumPy wins over the rows."""
