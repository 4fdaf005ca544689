# Printed by scripts/stubs from mpqueue/compat/surface.py: not to be edited.
from mpqueue.compat.program.summaries import FileWriter as FileWriter
from mpqueue.compat.program.summaries import merge as merge
from mpqueue.compat.program.summaries import merge_all as merge_all
from mpqueue.compat.program.summaries import scalar as audio
from mpqueue.compat.program.summaries import scalar as histogram
from mpqueue.compat.program.summaries import scalar as image
from mpqueue.compat.program.summaries import scalar as scalar
from mpqueue.compat.program.summaries import scalar as tensor_summary
from mpqueue.compat.program.summaries import scalar as text

__all__ = ["FileWriter", "audio", "histogram", "image", "merge", "merge_all", "scalar", "tensor_summary", "text"]
