# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
from mpqueue.compat.v1 import Assert as Assert
from mpqueue.compat.v1 import assert_equal as assert_equal
from mpqueue.compat.v1 import assert_greater as assert_greater
from mpqueue.compat.v1 import assert_greater_equal as assert_greater_equal
from mpqueue.compat.v1 import assert_integer as assert_integer
from mpqueue.compat.v1 import assert_less as assert_less
from mpqueue.compat.v1 import assert_less_equal as assert_less_equal
from mpqueue.compat.v1 import assert_near as assert_near
from mpqueue.compat.v1 import assert_negative as assert_negative
from mpqueue.compat.v1 import assert_non_negative as assert_non_negative
from mpqueue.compat.v1 import assert_non_positive as assert_non_positive
from mpqueue.compat.v1 import assert_none_equal as assert_none_equal
from mpqueue.compat.v1 import assert_positive as assert_positive
from mpqueue.compat.v1 import assert_rank as assert_rank
from mpqueue.compat.v1 import assert_rank_at_least as assert_rank_at_least
from mpqueue.compat.v1 import assert_rank_in as assert_rank_in
from mpqueue.compat.v1 import assert_scalar as assert_scalar
from mpqueue.compat.v1 import assert_type as assert_type
from mpqueue.compat.v1 import is_finite as is_finite
from mpqueue.compat.v1 import is_inf as is_inf
from mpqueue.compat.v1 import is_nan as is_nan
from mpqueue.compat.v1 import is_numeric_tensor as is_numeric_tensor

__all__ = [
    "Assert", "assert_equal", "assert_greater", "assert_greater_equal", "assert_integer", "assert_less",
    "assert_less_equal", "assert_near", "assert_negative", "assert_non_negative", "assert_non_positive",
    "assert_none_equal", "assert_positive", "assert_rank", "assert_rank_at_least", "assert_rank_in", "assert_scalar",
    "assert_type", "is_finite", "is_inf", "is_nan", "is_numeric_tensor",
]  # fmt: skip
