"""``scripts/release``: a version is released only if version, changelog, golden data and commit agree."""

import json
import re
import subprocess

import pytest
from helpers.script_modules import SCRIPTS, script

ROOT = SCRIPTS.parent


@pytest.fixture
def release():
    return script("parts.release")


@pytest.fixture
def project(tmp_path):
    """A commit that can be released as 1.2.0rc1."""
    golden = tmp_path / "tests/golden/1.2"
    golden.mkdir(parents=True)
    (golden / "orders.json").write_text(json.dumps({"made_with": {"mpqueue": "1.2.0rc1"}, "data": {}}))
    (tmp_path / "mpqueue").mkdir()
    (tmp_path / "mpqueue/version.py").write_text('"""The version."""\n\n__version__ = "1.2.0rc1"\n')
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## [1.2.0rc1] - 2026-11-30\n\nNew.\n\n## [1.1.0] - 2026-01-02\n"
    )
    commit(tmp_path, "init", "--quiet")
    return tmp_path


def commit(folder, *before):
    name = ["-c", "user.name=n", "-c", "user.email=e"]
    for command in (before, ["add", "."], [*name, "commit", "--quiet", "--message", "m"]):
        if command:
            subprocess.run(["git", *command], cwd=folder, check=True)


def replace(path, old, new):
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new))


def test_commit_that_agrees_has_no_problems(release, project):
    assert release.problems_of(project) == []


@pytest.mark.parametrize("version", ["1.2.1", "1.2.0", "1.2.0rc2"])
def test_patch_has_the_golden_data_of_its_minor_version(release, project, version):
    replace(project / "mpqueue/version.py", "1.2.0rc1", version)
    replace(project / "CHANGELOG.md", "1.2.0rc1", version)
    commit(project)
    assert release.problems_of(project) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("mpqueue/version.py", "1.2.0rc1", "1.2.dev", "Expected a version such as .* got '1.2.dev'"),
        ("mpqueue/version.py", "1.2.0rc1", "1.2.0", r"must be \[1.2.0\], got \[1.2.0rc1\]"),
        ("mpqueue/version.py", "1.2.0rc1", "1.3.0", "tests/golden/1.3 has no golden data: run scripts/golden"),
        ("CHANGELOG.md", "[1.2.0rc1]", "[Unreleased]", r"must be \[1.2.0rc1\], got \[Unreleased\]"),
        ("CHANGELOG.md", "## [1.2.0rc1] - 2026-11-30\n", "", r"must be \[1.2.0rc1\], got \[1.1.0\]"),
        ("CHANGELOG.md", " - 2026-11-30", "", "must have a date .* got None"),
        ("CHANGELOG.md", "2026-11-30", "2026-11-31", "must have a date .* got '2026-11-31'"),
        ("tests/golden/1.2/orders.json", "1.2.0rc1", "1.1.4", r"1.2/orders.json was written by mpqueue 1.1.4"),
    ],
)
def test_part_that_disagrees_is_named(release, project, file, old, new, problem):
    replace(project / file, old, new)
    commit(project)
    assert any(re.search(problem, line) for line in release.problems_of(project))


def test_changed_and_new_files_are_named(release, project):
    (project / "CHANGELOG.md").write_text((project / "CHANGELOG.md").read_text() + "more\n")
    (project / "new.py").write_text("")
    assert release.problems_of(project) == [
        "The commit lacks changes:  M CHANGELOG.md",
        "The commit lacks changes: ?? new.py",
    ]


def test_version_of_this_commit_has_golden_data(release):
    assert release.problems_of_golden_data(ROOT, release.version_of(ROOT)) == []


def test_files_that_a_source_distribution_lacks_are_named(release):
    names = ["mpqueue-1.2.0", "mpqueue-1.2.0/mpqueue/__init__.py", "mpqueue-1.2.0/PKG-INFO"]
    assert release.missing_in(names, ["mpqueue/__init__.py", ".ci/run"]) == [".ci/run"]
