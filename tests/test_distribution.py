"""The wheel has the package and nothing else, and the sdist has all files of the repository."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import pytest
from helpers.package_structure import ROOT

pytest.importorskip("hatchling", reason="hatchling is not installed")

pytestmark = pytest.mark.slow  # builds both archives

# Without an isolated environment, which would need a package index.
_BUILD = "import sys; from hatchling import build; print(getattr(build, sys.argv[1])(sys.argv[2]))"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("dist")


def built(kind, folder):
    done = subprocess.run(
        [sys.executable, "-c", _BUILD, kind, folder], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    return folder / done.stdout.splitlines()[-1]


def files_of(*folders):
    """Return the names of the files in folders of the repository, without what tools have written there."""
    found = (path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in found if not {"__pycache__", ".hypothesis"} & set(path.parts)}


def test_the_wheel_has_the_modules_their_types_the_command_and_the_license(folder):
    with zipfile.ZipFile(built("build_wheel", folder)) as wheel:
        names = set(wheel.namelist())
        inside = {name for name in names if not re.match(r"mpqueue-[\d.\w]+\.dist-info/", name)}
        (metadata,) = [wheel.read(name).decode() for name in names if name.endswith(".dist-info/METADATA")]
    assert inside == files_of("mpqueue")
    assert {name.rpartition(".")[2] for name in inside} == {"py", "pyi", "typed"}
    assert {name.partition("/")[2] for name in names - inside} == {
        "METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE",
    }  # fmt: skip
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(re.findall(r"^Classifier: (.+)$", metadata, re.MULTILINE)) == set(project["classifiers"])
    assert set(re.findall(r"^Provides-Extra: (.+)$", metadata, re.MULTILINE)) == project["optional-dependencies"].keys()


def test_the_sdist_has_the_tests_the_documents_and_the_settings_of_the_tools(folder):
    with tarfile.open(built("build_sdist", folder)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = files_of("mpqueue", "tests", "scripts", "docs", ".ci", ".github")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    included = settings["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    wanted |= {name.lstrip("/") for name in included if (ROOT / name.lstrip("/")).is_file()}
    assert names >= wanted
    assert names - wanted <= {".gitignore", "PKG-INFO", "pyproject.toml"}
