# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
from mpqueue.tf1.compat.program.summaries import FileWriter as FileWriter
from mpqueue.tf1.compat.program.summaries import merge as merge
from mpqueue.tf1.compat.program.summaries import merge_all as merge_all
from mpqueue.tf1.compat.program.summaries import scalar as audio
from mpqueue.tf1.compat.program.summaries import scalar as histogram
from mpqueue.tf1.compat.program.summaries import scalar as image
from mpqueue.tf1.compat.program.summaries import scalar as scalar
from mpqueue.tf1.compat.program.summaries import scalar as tensor_summary
from mpqueue.tf1.compat.program.summaries import scalar as text

__all__ = [
    "FileWriter", "audio", "histogram", "image", "merge", "merge_all", "scalar", "tensor_summary", "text",
]  # fmt: skip
