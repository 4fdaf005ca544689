"""The workflows, the hooks and the files for contributors agree with pyproject.toml and the scripts."""

import json
import os
import re
import tomllib

import pytest
from helpers.package_structure import ROOT

pytestmark = pytest.mark.pure

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
WORKFLOWS = {path.name: path.read_text("utf-8") for path in sorted((ROOT / ".github/workflows").glob("*.yml"))}
SCRIPT = re.compile(r"\bscripts/\w+")


def test_the_matrix_has_the_pythons_of_the_classifiers():
    classifiers = re.findall(r"Python :: (3\.\d+)$", "\n".join(SETTINGS["project"]["classifiers"]), re.MULTILINE)
    default, free_threading = map(json.loads, re.findall(r"python: (\[.*\])", WORKFLOWS["tests.yml"]))
    assert default == classifiers
    assert free_threading == [f"{classifiers[-1]}t"]
    assert SETTINGS["project"]["requires-python"] == f">={classifiers[0]}"


def test_the_oldest_and_newest_packages_run_on_the_oldest_and_newest_python():
    (found,) = re.findall(r"python-version: \|\n((?: +3\.\d+\n)+)", WORKFLOWS["tests.yml"])
    pythons = json.loads(re.search(r"python: (\[.*\])", WORKFLOWS["tests.yml"])[1])
    assert found.split() == [pythons[0], pythons[-1]]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_only_runs_scripts_that_can_be_started(name):
    commands = re.findall(r"^ +- run: (.+)$", WORKFLOWS[name], re.MULTILINE)
    assert commands
    assert [command for command in commands if not SCRIPT.match(command)] == []
    scripts = {SCRIPT.match(command)[0] for command in commands}
    assert [script for script in scripts if not os.access(ROOT / script, os.X_OK)] == []


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_may_only_read_and_pins_its_actions(name):
    assert "\npermissions:\n  contents: read\n" in WORKFLOWS[name]
    used = re.findall(r"uses: (.+)$", WORKFLOWS[name], re.MULTILINE)
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", action)] == []


def test_folders_and_files_in_workflows_exist():
    named = {path for text in WORKFLOWS.values() for path in re.findall(r"\btests/[\w/]+", text)}
    assert len(named) > 3
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_hooks_have_the_version_of_ruff_of_the_scripts():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    (wanted,) = [one for one in SETTINGS["dependency-groups"]["lint"] if one.startswith("ruff==")]
    assert set(re.findall(r"ruff==[\d.]+", hooks)) == {wanted}


def test_the_site_is_built_with_the_packages_of_its_script():
    script, site = ((ROOT / name).read_text("utf-8") for name in ("scripts/docs", ".readthedocs.yaml"))
    assert re.search(r"^EXTRAS=([\w,]+)", script, re.MULTILINE)[1] == re.search(r"\[([\w,]+)\]", site)[1]
    assert re.search(r"^DEPENDENCY_GROUPS=(\w+)", script, re.MULTILINE)[1] == re.search(r"--group (\w+)", site)[1]


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md"])
def test_a_file_for_contributors_fits_on_a_screen(name):
    assert len((ROOT / ".github" / name).read_text("utf-8").splitlines()) <= 50


def test_the_form_for_bugs_asks_for_the_output_of_the_commands():
    form = (ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text("utf-8")
    assert "`mpqueue doctor`" in form
    assert "`mpqueue state FILE`" in form


def test_no_file_names_an_address_of_a_repository_that_is_not_in_the_metadata():
    address = SETTINGS["project"]["urls"].get("Source", "")
    texts = [(ROOT / name).read_text("utf-8") for name in ("README.md", "docs/start/installing.md")]
    texts += [path.read_text("utf-8") for path in (ROOT / ".github").rglob("*.*") if path.is_file()]
    found = {url for text in texts for url in re.findall(r"https?://[^\s)\"']*mpqueue[^\s)\"']*", text)}
    assert [url for url in found if not address or not url.startswith(address)] == []
