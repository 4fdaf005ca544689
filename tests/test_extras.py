"""Errors for missing packages have one form, and name existing extras."""

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
import types

import pytest
from helpers.package_structure import ROOT

from mpqueue.system.user_code.extras import is_installed

pytestmark = pytest.mark.pure

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
# zsh, and the characters >=, require the quotes.
FORM = re.compile(r'pip install "(?:mpqueue\[(?P<extras>\w+(?:,\w+)*)\]|\w+>=[\d.]+(?:,<[\d.]+)?)"')


def extras_in(text):
    """Return the extras that a remedy names."""
    return {extra for found in FORM.finditer(text) if found["extras"] for extra in found["extras"].split(",")}


def remedies():
    """Yield every string of the package that contains an installation command, as (file, string)."""
    for path in sorted((ROOT / "mpqueue").rglob("*.py")):
        text = path.read_text("utf-8")
        for node in ast.walk(ast.parse(text)) if "pip install" in text else ():
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "pip install" in node.value:
                yield str(path.relative_to(ROOT)), node.value


@pytest.mark.sample(6)
@pytest.mark.parametrize(("path", "text"), list(remedies()))
def test_a_remedy_has_the_standard_form_and_names_an_existing_extra(path, text):
    assert FORM.search(text), f"{path}: {text!r}"
    assert extras_in(text) <= EXTRAS.keys()


def test_each_extra_is_named_in_a_remedy():
    assert set().union(*(extras_in(text) for _, text in remedies())) == EXTRAS.keys()


def test_there_are_at_most_ten_extras():
    assert len(EXTRAS) <= 10


@pytest.mark.parametrize(
    ("module", "use", "extra"),
    [
        ("torch", "mpqueue.torch.DataLoader", "torch"),
        ("jax", "mpqueue.jax.device_iterator([])", "jax"),
        ("tensorflow", "mpqueue.tf.dataset(None)", "tensorflow"),
        ("keras", "mpqueue.keras.install()", "keras,jax"),
    ],
)
def test_without_a_framework_the_error_names_its_extra(module, use, extra):
    code = f"import sys; sys.modules[{module!r}] = None; import mpqueue; {use}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert re.fullmatch(
        rf'ImportError: mpqueue\.\w+ needs [\w ]+: pip install "mpqueue\[{extra}\]"(?: or .*)?',
        done.stderr.splitlines()[-1],
    )


@pytest.mark.parametrize("name", ["ray", "tqdm", "not_installed"])
def test_a_module_without_spec_is_installed_and_none_hides_it(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, types.SimpleNamespace())
    assert is_installed(name)
    monkeypatch.setitem(sys.modules, name, None)
    assert not is_installed(name)
    monkeypatch.delitem(sys.modules, name)
    assert is_installed(name) == (importlib.util.find_spec(name) is not None)


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_installs_at_most_one_framework(extra):
    """JAX and TensorFlow in one process are two runtimes. Users who need both list two extras."""
    brought = {re.match(r"[\w-]+", requirement)[0].removesuffix("-cpu") for requirement in EXTRAS[extra]}
    assert len(brought & {"jax", "tensorflow", "torch"}) <= 1


def test_no_group_installs_mpqueue_from_an_index():
    """pip would search the index for the package of this clone, and install any package with its name from there."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    needed = [each for group in groups.values() for each in group if isinstance(each, str)]
    assert [each for each in needed if each.startswith("mpqueue")] == []
