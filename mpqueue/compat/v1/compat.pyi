# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
from mpqueue.tf1.compat.ops.tensorshape import dimension_value as dimension_value
from mpqueue.tf1.compat.program.texts import as_bytes as as_bytes
from mpqueue.tf1.compat.program.texts import as_str_any as as_str_any
from mpqueue.tf1.compat.program.texts import as_text as as_str
from mpqueue.tf1.compat.program.texts import as_text as as_text
from mpqueue.tf1.compat.program.texts import bytes_or_text_types as bytes_or_text_types
from mpqueue.tf1.compat.program.texts import complex_types as complex_types
from mpqueue.tf1.compat.program.texts import integral_types as integral_types
from mpqueue.tf1.compat.program.texts import path_to_str as path_to_str
from mpqueue.tf1.compat.program.texts import real_types as real_types

__all__ = [
    "as_bytes", "as_str", "as_str_any", "as_text", "bytes_or_text_types", "complex_types", "dimension_value",
    "integral_types", "path_to_str", "real_types",
]  # fmt: skip
