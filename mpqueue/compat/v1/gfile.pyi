# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
from mpqueue.tf1.compat.program.gfile import Copy as Copy
from mpqueue.tf1.compat.program.gfile import DeleteRecursively as DeleteRecursively
from mpqueue.tf1.compat.program.gfile import Exists as Exists
from mpqueue.tf1.compat.program.gfile import GFile as FastGFile
from mpqueue.tf1.compat.program.gfile import GFile as GFile
from mpqueue.tf1.compat.program.gfile import GFile as Open
from mpqueue.tf1.compat.program.gfile import Glob as Glob
from mpqueue.tf1.compat.program.gfile import IsDirectory as IsDirectory
from mpqueue.tf1.compat.program.gfile import ListDirectory as ListDirectory
from mpqueue.tf1.compat.program.gfile import MakeDirs as MakeDirs
from mpqueue.tf1.compat.program.gfile import MkDir as MkDir
from mpqueue.tf1.compat.program.gfile import Remove as Remove
from mpqueue.tf1.compat.program.gfile import Rename as Rename
from mpqueue.tf1.compat.program.gfile import Stat as Stat
from mpqueue.tf1.compat.program.gfile import Walk as Walk

__all__ = [
    "Copy", "DeleteRecursively", "Exists", "FastGFile", "GFile", "Glob", "IsDirectory", "ListDirectory", "MakeDirs",
    "MkDir", "Open", "Remove", "Rename", "Stat", "Walk",
]  # fmt: skip
