"""The public names: the result of ``dir``, modules that load on first use, and the errors for mistaken names."""

import ast
import re
import subprocess
import sys

import pytest
from helpers.docstrings import MODULES, OF_TORCH
from helpers.package_structure import ROOT

import mpqueue
from mpqueue.tf1 import root

pytestmark = pytest.mark.pure

PACKAGE = ROOT / "mpqueue"


def test_dir_shows_public_names_only():
    assert dir(mpqueue) == sorted({*mpqueue.__all__, "files", "jax", "keras", "metrics", "tf", "torch"})


def test_the_root_shows_the_names_of_the_data_loader_and_hides_those_of_tensorflow_1():
    assert len(mpqueue.__all__) <= 24
    hidden = [name for name in root.__all__ if getattr(mpqueue, name) is getattr(mpqueue.train, name)]
    assert len(hidden) == len(root.__all__) > 30
    assert not {*hidden, "compat", "python_io", "train"} & {*dir(mpqueue)}


def test_dir_shows_the_same_names_after_some_were_used():
    before = dir(mpqueue)
    assert mpqueue.Loader.__name__ == "Loader"
    assert dir(mpqueue) == before


def test_the_three_lists_of_file_formats_agree():
    text = (PACKAGE / "files/__init__.py").read_text("utf-8")
    imported = re.findall(r"^    from mpqueue\.([\w.]+) import (\w+) as \2$", text, re.M)
    assert dict(mpqueue.files._HOMES) == {name: home for home, name in imported}
    assert sorted(mpqueue.files.__all__) == sorted(mpqueue.files._HOMES)


def public_modules():
    """Return the modules and folders of the package that list public names."""
    paths = [*PACKAGE.glob("*.py"), *PACKAGE.glob("*/__init__.py")]
    listing = [path for path in paths if "\n__all__ = " in path.read_text("utf-8")]
    names = {path.parent.name if path.name == "__init__.py" else path.stem for path in listing}
    return names - {"mpqueue"}


def test_a_module_with_public_names_is_an_attribute_of_the_package():
    """Check both the run-time attributes and the imports under `TYPE_CHECKING` for type checkers."""
    modules = public_modules() - {"errors"}
    assert {name for name in modules if getattr(mpqueue, name).__name__ == f"mpqueue.{name}"} == modules
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    (checked,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imported = {name.asname for node in checked.body if node.module == "mpqueue" for name in node.names}
    assert imported == modules


def test_the_docstrings_and_the_reference_of_a_public_module_are_checked():
    """`MODULES` in `tests/helpers/docstrings.py` lists the checked modules."""
    checked = {name.partition(".")[2] for name in MODULES + OF_TORCH}
    assert checked == public_modules() - {"compat"} | {""}


def test_packages_load_on_first_use_without_their_frameworks_and_imports():
    names = ["compat", "files", "jax", "keras", "metrics", "python_io", "tf", "train"]
    code = f"""
import sys, mpqueue
print("numpy" in sys.modules, [name for name in {names} if "mpqueue." + name in sys.modules])
assert [getattr(mpqueue, name).__name__ for name in {names}] == ["mpqueue." + name for name in {names}]
mpqueue.compat.v1.FIFOQueue, mpqueue.keras.accelerate, mpqueue.jax.device_iterator, mpqueue.tf.dataset
print({{"PIL", "google", "jax", "keras", "tensorflow", "torch"}} & {{*sys.modules}})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("False []\nset()\n", "")


@pytest.mark.parametrize("name", ["Load", "no_such_name", "__wrapped__"])
def test_an_unknown_name_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match=f"module 'mpqueue' has no attribute '{name}'"):
        getattr(mpqueue, name)


@pytest.mark.parametrize(
    ("name", "instead"), [("DataLoader", "torch.DataLoader"), ("IterableDataset", "Loader"), ("PyDataset", "Sequence")]
)
def test_names_of_other_libraries_get_a_hint(name, instead):
    with pytest.raises(AttributeError, match=f"module 'mpqueue' has no attribute '{name}': .*mpqueue.{instead}"):
        getattr(mpqueue, name)


def test_python_suggests_the_right_name_for_a_misspelt_one():
    done = subprocess.run([sys.executable, "-c", "import mpqueue; mpqueue.Loder"], capture_output=True, text=True)
    assert "Did you mean: 'Loader'?" in done.stderr
