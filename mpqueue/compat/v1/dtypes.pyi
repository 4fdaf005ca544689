# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
from mpqueue.compat.v1 import as_string as as_string
from mpqueue.compat.v1 import cast as cast
from mpqueue.compat.v1 import saturate_cast as saturate_cast
from mpqueue.tf1.compat.ops.dtypes import DType as DType
from mpqueue.tf1.compat.ops.dtypes import as_dtype as as_dtype
from mpqueue.tf1.compat.ops.dtypes import bool_ as bool
from mpqueue.tf1.compat.ops.dtypes import complex128 as complex128
from mpqueue.tf1.compat.ops.dtypes import complex64 as complex64
from mpqueue.tf1.compat.ops.dtypes import double as double
from mpqueue.tf1.compat.ops.dtypes import float16 as float16
from mpqueue.tf1.compat.ops.dtypes import float32 as float32
from mpqueue.tf1.compat.ops.dtypes import float64 as float64
from mpqueue.tf1.compat.ops.dtypes import half as half
from mpqueue.tf1.compat.ops.dtypes import int16 as int16
from mpqueue.tf1.compat.ops.dtypes import int32 as int32
from mpqueue.tf1.compat.ops.dtypes import int64 as int64
from mpqueue.tf1.compat.ops.dtypes import int8 as int8
from mpqueue.tf1.compat.ops.dtypes import resource as resource
from mpqueue.tf1.compat.ops.dtypes import string as string
from mpqueue.tf1.compat.ops.dtypes import uint16 as uint16
from mpqueue.tf1.compat.ops.dtypes import uint32 as uint32
from mpqueue.tf1.compat.ops.dtypes import uint64 as uint64
from mpqueue.tf1.compat.ops.dtypes import uint8 as uint8

__all__ = [
    "DType", "as_dtype", "as_string", "bool", "cast", "complex128", "complex64", "double", "float16", "float32",
    "float64", "half", "int16", "int32", "int64", "int8", "resource", "saturate_cast", "string", "uint16", "uint32",
    "uint64", "uint8",
]  # fmt: skip
