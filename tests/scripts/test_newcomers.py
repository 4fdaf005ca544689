"""``scripts/newcomers``: which Pythons, versions and users it tries."""

import sys

import pytest
from helpers.script_modules import SCRIPTS, script


@pytest.fixture
def newcomers():
    return script("parts.newcomers")


def interpreter(newcomers, minor):
    return newcomers.Interpreter((3, minor, 0), f"/usr/bin/python3.{minor}", "/usr")


def test_oldest_versions_are_those_of_the_run_time_dependencies(newcomers, tmp_path):
    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\ndependencies = ["numpy>=1.26", "psutil >= 5.9"]\n')
    assert newcomers.oldest_versions(project) == ["numpy==1.26", "psutil==5.9"]


def test_oldest_versions_of_extras_follow_those_of_the_dependencies(newcomers, tmp_path):
    project = tmp_path / "pyproject.toml"
    project.write_text(
        '[project]\ndependencies = ["numpy>=1.26"]\n'
        '[project.optional-dependencies]\nkeras = ["keras>=3.6"]\ntorch = ["torch>=2.4"]\n'
    )
    assert newcomers.oldest_versions(project, ["torch"]) == ["numpy==1.26", "torch==2.4"]


def test_each_dependency_of_the_project_has_an_oldest_version(newcomers):
    versions = newcomers.oldest_versions(SCRIPTS.parent / "pyproject.toml")
    assert [version.partition("==")[0] for version in versions] == ["numpy", "cloudpickle", "psutil"]
    assert all(version.partition("==")[2] for version in versions)


def test_oldest_python_gets_oldest_packages_and_newest_python_the_newest(newcomers):
    found = [interpreter(newcomers, minor) for minor in (11, 12, 14)]
    old, new = newcomers.runs_of(found, SCRIPTS.parent / "pyproject.toml")
    assert (old.interpreter, new.interpreter) == (found[0], found[2])
    assert old.constraints
    assert not new.constraints


def test_python_without_wheels_of_the_oldest_packages_is_tried_with_the_newest_only(newcomers):
    runs = newcomers.runs_of([interpreter(newcomers, 13)], SCRIPTS.parent / "pyproject.toml")
    assert [run.name for run in runs] == ["newest"]


def test_installed_pythons_are_found_once_for_each_minor_version(newcomers):
    found = newcomers.interpreters()
    assert sys.version_info[:2] in {each.version[:2] for each in found}
    assert len({each.version[:2] for each in found}) == len(found)
    assert found == sorted(found)


def test_command_of_another_user_drops_all_groups_before_it_starts(newcomers):
    host = newcomers.Host("nobody", 65534, ("unshare",))
    assert host.command(["true"]) == ["unshare", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "true"]
    assert newcomers.Host("me", None, ()).command(["true"]) == ["true"]
