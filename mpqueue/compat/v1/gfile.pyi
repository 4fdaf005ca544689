# Printed by scripts/stubs from mpqueue/compat/surface.py: not to be edited.
from mpqueue.compat.program.gfile import Copy as Copy
from mpqueue.compat.program.gfile import DeleteRecursively as DeleteRecursively
from mpqueue.compat.program.gfile import Exists as Exists
from mpqueue.compat.program.gfile import GFile as FastGFile
from mpqueue.compat.program.gfile import GFile as GFile
from mpqueue.compat.program.gfile import GFile as Open
from mpqueue.compat.program.gfile import Glob as Glob
from mpqueue.compat.program.gfile import IsDirectory as IsDirectory
from mpqueue.compat.program.gfile import ListDirectory as ListDirectory
from mpqueue.compat.program.gfile import MakeDirs as MakeDirs
from mpqueue.compat.program.gfile import MkDir as MkDir
from mpqueue.compat.program.gfile import Remove as Remove
from mpqueue.compat.program.gfile import Rename as Rename
from mpqueue.compat.program.gfile import Stat as Stat
from mpqueue.compat.program.gfile import Walk as Walk

__all__ = [
    "Copy",
    "DeleteRecursively",
    "Exists",
    "FastGFile",
    "GFile",
    "Glob",
    "IsDirectory",
    "ListDirectory",
    "MakeDirs",
    "MkDir",
    "Open",
    "Remove",
    "Rename",
    "Stat",
    "Walk",
]
