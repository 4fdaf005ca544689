"""``scripts/newcomers``: which Pythons, versions and users it tries."""

import sys

import pytest
from helpers.script_modules import SCRIPTS, script


@pytest.fixture
def newcomers():
    return script("parts.newcomers")


def test_oldest_versions_of_extras_follow_those_of_the_run_time_dependencies(newcomers, tmp_path):
    project = tmp_path / "pyproject.toml"
    project.write_text(
        '[project]\ndependencies = ["numpy>=1.26", "psutil >= 5.9"]\n'
        '[project.optional-dependencies]\nkeras = ["keras>=3.6"]\ntorch = ["torch>=2.4"]\n'
    )
    assert newcomers.oldest_versions(project) == ["numpy==1.26", "psutil==5.9"]
    assert newcomers.oldest_versions(project, ["torch"]) == ["numpy==1.26", "psutil==5.9", "torch==2.4"]


def test_each_dependency_of_the_project_has_an_oldest_version(newcomers):
    versions = newcomers.oldest_versions(SCRIPTS.parent / "pyproject.toml")
    assert [version.partition("==")[0] for version in versions] == ["numpy", "cloudpickle", "psutil"]
    assert all(version.partition("==")[2] for version in versions)


def test_oldest_python_gets_oldest_packages_if_they_have_wheels_and_newest_python_the_newest(newcomers):
    found = [newcomers.Interpreter((3, minor, 0), f"/usr/bin/python3.{minor}", "/usr") for minor in (11, 12, 14)]
    old, new = newcomers.runs_of(found, SCRIPTS.parent / "pyproject.toml")
    assert (old.interpreter, new.interpreter) == (found[0], found[2])
    assert old.constraints
    assert not new.constraints
    assert [run.name for run in newcomers.runs_of(found[2:], SCRIPTS.parent / "pyproject.toml")] == ["newest"]


def test_installed_pythons_are_found_once_for_each_minor_version(newcomers):
    found = newcomers.interpreters()
    assert sys.version_info[:2] in {each.version[:2] for each in found}
    assert len({each.version[:2] for each in found}) == len(found)
    assert found == sorted(found)


def test_command_of_another_user_drops_all_groups_before_it_starts(newcomers):
    host = newcomers.Host("nobody", 65534, ("unshare",))
    assert host.command(["true"]) == ["unshare", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "true"]
    assert newcomers.Host("me", None, ()).command(["true"]) == ["true"]
