"""Sources named on a command line."""

import os
import sys

import pytest

from mpqueue.commands.factories import NotFound, source_of

DATA = """
import sibling

class Photos:
    size = sibling.SIZE
    def __len__(self):
        return self.size
    def __getitem__(self, index):
        return index

    class Small:
        def __getitem__(self, index):
            return -index

def make():
    return Photos()

def stream():
    yield from range(3)

photos = Photos()
_hidden = None

def needs(path):
    return Photos()

def fails():
    raise ZeroDivisionError("of the factory")
"""


@pytest.fixture(autouse=True)
def folder(working_folder):
    (working_folder / "sibling.py").write_text("SIZE = 7\n")
    (working_folder / "broken.py").write_text("import no_such_module_at_all\n")
    (working_folder / "package").mkdir()
    (working_folder / "package" / "__init__.py").write_text("")
    for name in ("photos_data", "random", "with-hyphens", "package/inner"):
        (working_folder / f"{name}.py").write_text(DATA)
    return working_folder


@pytest.mark.parametrize(
    "place", ["photos_data", "package.inner", "photos_data.py", "./photos_data.py", "package/inner.py"]
)
def test_a_factory_of_a_module_or_a_file_is_called(place):
    source = source_of(f"{place}:make")
    assert len(source) == 7
    assert len(source_of(f"{place}:Photos")) == 7
    assert source_of(f"{place}:Photos.Small")[3] == -3


def test_module_in_the_working_directory_takes_precedence(monkeypatch):
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in {"", os.getcwd()}])
    assert len(source_of("photos_data:make")) == 7


def test_file_elsewhere_can_import_its_neighbours(folder, monkeypatch):
    monkeypatch.chdir("/")
    assert len(source_of(f"{folder}/photos_data.py:make")) == 7


def test_file_is_imported_under_a_name_that_workers_can_import():
    assert type(source_of("photos_data.py:make")).__module__ == "photos_data"


@pytest.mark.parametrize("name", ["random", "sys"])
def test_file_with_the_name_of_a_module_does_not_replace_it(folder, name):
    os.rename("photos_data.py", f"{name}.py")
    module = sys.modules[name]
    assert type(source_of(f"{name}.py:make")).__module__ == f"served_{name}"
    assert sys.modules[name] is module


def test_file_with_a_name_that_is_not_an_identifier_is_imported():
    assert len(source_of("with-hyphens.py:make")) == 7


def test_generator_function_or_object_is_the_source_itself():
    stream = source_of("photos_data:stream")
    assert list(stream()) == [0, 1, 2]
    assert list(stream()) == [0, 1, 2]
    assert len(source_of("photos_data:photos")) == 7


@pytest.mark.parametrize("name", ["", "photos_data", ":make", "photos_data:", "photos_data.py"])
def test_name_without_factory_is_rejected_with_the_expected_form(name):
    with pytest.raises(NotFound, match=r"is not the name of a factory: expected MODULE:FACTORY or FILE\.py:FACTORY"):
        source_of(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such:make", "module 'no_such' was not found in "),
        (".photos_data:make", r"'\.photos_data' is a relative name"),
        ("no_such.inner:make", "module 'no_such' was not found in "),
        ("package.no_such:make", "module 'package.no_such' was not found in "),
        ("no_such.py:make", "file .*/no_such.py does not exist"),
        ("photos_data:nothing", "has no 'nothing', only Photos, fails, make, needs, photos, stream$"),
        ("photos_data:needs", r"is called without arguments, but needs\(path\) needs some .*: name a function"),
        ("photos_data:Photos.Large", "has no 'Photos.Large', only Small, size"),
    ],
)
def test_missing_module_file_or_factory_is_reported(name, message):
    with pytest.raises(NotFound, match=message):
        source_of(name)


def test_error_of_a_module_or_factory_is_raised():
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        source_of("broken:make")
    with pytest.raises(ZeroDivisionError, match="of the factory"):
        source_of("photos_data:fails")
