"""Other names that scripts use: files, flags, logging, strings, summaries."""

import logging
import subprocess
import sys

import numpy as np
import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver
from helpers.finalizers import end_interrupted

import mpqueue.compat.v1 as tf
from mpqueue.tf1.compat.program import flags

# Files


@pytest.mark.parametrize("place", ["local", "memory"])
def test_files_are_written_listed_read_and_removed(place, tmp_path):
    if place == "memory":
        pytest.importorskip("fsspec")
    root = str(tmp_path) if place == "local" else "memory://gfile-test"
    tf.gfile.MakeDirs(f"{root}/a/b")
    with tf.gfile.GFile(f"{root}/a/file.txt", "w") as file:
        file.write("one\ntwo\n")
        file.write(b"\xc3\xa9")
    assert tf.gfile.Exists(f"{root}/a/file.txt")
    assert tf.gfile.IsDirectory(f"{root}/a")
    assert sorted(tf.gfile.ListDirectory(f"{root}/a")) == ["b", "file.txt"]
    with tf.gfile.Open(f"{root}/a/file.txt") as file:
        assert file.readline() == "one\n"
        assert list(file) == ["two\n", "\u00e9"]
        file.seek(0)
        assert file.read(3) == "one"
        assert file.size() == 10
    assert tf.gfile.FastGFile(f"{root}/a/file.txt", "rb").read() == b"one\ntwo\n\xc3\xa9"
    tf.gfile.Copy(f"{root}/a/file.txt", f"{root}/copy.txt")
    with pytest.raises(tf.errors.AlreadyExistsError, match="copy"):
        tf.gfile.Copy(f"{root}/a/file.txt", f"{root}/copy.txt")
    tf.gfile.Rename(f"{root}/copy.txt", f"{root}/moved.txt")
    assert [path.rpartition("/")[2] for path in tf.gfile.Glob(f"{root}/*.txt")] == ["moved.txt"]
    assert tf.gfile.Stat(f"{root}/moved.txt").length == 10
    tf.gfile.Remove(f"{root}/moved.txt")
    assert not tf.gfile.Exists(f"{root}/moved.txt")
    assert [sorted(files) for _, _, files in tf.gfile.Walk(f"{root}/a")] == [["file.txt"], []]
    tf.gfile.DeleteRecursively(f"{root}/a")
    assert not tf.gfile.Exists(f"{root}/a/file.txt")


def test_a_file_is_copied_to_another_file_system_but_not_renamed_into_it(tmp_path):
    pytest.importorskip("fsspec")
    (tmp_path / "a").write_text("text")
    there = "memory://gfile-elsewhere/a"
    tf.gfile.Copy(str(tmp_path / "a"), there)
    assert tf.gfile.GFile(there).read() == "text"
    with pytest.raises(tf.errors.UnimplementedError, match="Renaming"):
        tf.gfile.Rename(there, str(tmp_path / "b"))
    assert tf.gfile.Exists(there)
    assert not (tmp_path / "b").exists()


def test_file_is_opened_on_first_use_with_clear_errors(tmp_path):
    missing = tf.gfile.GFile(str(tmp_path / "missing"))
    with pytest.raises(tf.errors.NotFoundError, match="missing"):
        missing.read()
    with pytest.raises(tf.errors.PermissionDeniedError, match="not open for writing"):
        missing.write("text")
    with pytest.raises(tf.errors.PermissionDeniedError, match="not open for reading"):
        tf.gfile.GFile(str(tmp_path / "new"), "w").read()
    with pytest.raises(tf.errors.InvalidArgumentError, match="mode"):
        tf.gfile.GFile("name", "x")
    with pytest.raises(tf.errors.NotFoundError):
        tf.gfile.ListDirectory(str(tmp_path / "missing"))
    assert list(tf.gfile.Walk(str(tmp_path / "missing"))) == []


def test_flush_writes_buffered_data(tmp_path):
    file = tf.gfile.GFile(str(tmp_path / "a"), "w")
    file.write("text")
    file.flush()
    assert (tmp_path / "a").read_text() == "text"
    assert file.tell() == 4
    file.close()
    file.close()


# Flags


@pytest.fixture
def defined():
    with flagsaver.flagsaver():  # which also removes new flags
        flags.FLAGS.unparse_flags()
        flags.DEFINE_string("name", "default", "A name.")
        flags.DEFINE_integer("count", 1, "A number.")
        flags.DEFINE_float("rate", 0.5, "A rate.")
        flags.DEFINE_boolean("fast", False, "Fast.")
        tf.flags.DEFINE_bool("safe", True, "Safe.")
        flags.DEFINE_list("parts", ["a"], "Parts.")
        flags.DEFINE_enum("kind", "one", ["one", "two"], "A kind.")
        flags.DEFINE_multi_integer("many", [1, 2], "Numbers.")
        yield flags.FLAGS
    flags.FLAGS.unparse_flags()


def test_flags_are_parsed_on_first_access(defined, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["prog", "--count=9", "--many=3"])
    assert not hasattr(defined, "__wrapped__"), "__wrapped__ must not be a flag: tools look it up"
    assert not defined.is_parsed()
    assert defined.count == 9
    assert defined.is_parsed()


def test_flag_defined_later_is_parsed_and_others_keep_their_values(defined, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["prog", "--count=9", "--many=3", "--late=x"])
    assert defined.count == 9
    defined.count = 10
    flags.DEFINE_string("late", None, "Defined later.")
    assert defined.late == "x"
    assert (defined.count, defined.many) == (10, [3])
    assert defined.flag_values_dict()["late"] == "x"


def test_flags_are_defined_once_and_accept_old_argument_names(defined):
    with pytest.raises(flags.DuplicateFlagError, match="count"):
        flags.DEFINE_integer("count", 1, "Again.")
    with pytest.raises(TypeError, match=r"DEFINE_string\(\) requires the name"):
        flags.DEFINE_string()
    flags.DEFINE_string(flag_name="old", docstring="Old.")
    assert defined["old"].help == "Old."
    flags.DEFINE_string(flag_name="older", default_value="v")
    flags.mark_flag_as_required("old")
    with pytest.raises(flags.IllegalFlagValueError, match="old"):
        defined(["prog"])
    assert defined(["prog", "--old=x"]) == ["prog"]
    assert (defined.old, defined.older) == ("x", "v")
    with pytest.raises(AttributeError, match="nothing"):
        defined.nothing
    with pytest.raises(flags.Error, match="nothing"):
        defined.nothing = 1


def test_the_flags_are_those_of_absl(defined):
    assert absl_flags.FLAGS["count"] is defined["count"]
    defined(["prog", "--count=4"])
    assert absl_flags.FLAGS.count == 4


def test_without_absl_only_flags_fail_and_name_the_extra():
    code = """
import sys
sys.modules["absl"] = None
import mpqueue.compat.v1 as tf
tf.logging.error("shown %d", 3)
for use in (lambda: tf.flags.DEFINE_string, lambda: tf.app.flags.FLAGS, lambda: tf.app.run):
    try:
        use()
    except ImportError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ['tf.flags and tf.app need absl-py: pip install "mpqueue[compat]"'] * 3
    assert done.stderr == "ERROR:mpqueue.script:shown 3\n"


def test_app_run_parses_calls_main_and_exits_with_its_result(defined, capsys):
    seen = []

    def main(argv):
        seen.append((argv, defined.count))
        return 3

    with pytest.raises(SystemExit) as exit:
        tf.app.run(main, ["prog", "--count=5", "rest"])
    assert exit.value.code == 3
    assert seen == [(["prog", "rest"], 5)]
    with pytest.raises(SystemExit, match="FATAL"):
        tf.app.run(main, ["prog", "--count=x"])
    with pytest.raises(SystemExit):
        tf.app.run(main, ["prog", "--help"])
    assert "A rate." in capsys.readouterr().out


# Logging


@pytest.fixture
def messages(caplog):
    level = tf.logging.get_verbosity()
    yield caplog
    tf.logging.set_verbosity(level)


def test_messages_below_the_verbosity_are_not_logged(messages):
    tf.logging.set_verbosity(tf.logging.INFO)
    tf.logging.debug("hidden")
    tf.logging.info("shown %d", 1)
    tf.logging.warning("shown %s", "too")
    tf.logging.set_verbosity(tf.logging.ERROR)
    tf.logging.warn("hidden")
    tf.logging.error("shown")
    assert messages.messages == ["shown 1", "shown too", "shown"]
    assert tf.logging.get_verbosity() == logging.ERROR
    assert {record.filename for record in messages.records} == {"test_program.py"}


def test_log_first_n_and_every_n_count_per_line(messages):
    tf.logging.set_verbosity(tf.logging.INFO)
    for number in range(5):
        tf.logging.log_first_n(tf.logging.INFO, "first %d", 2, number)
        tf.logging.log_every_n(tf.logging.INFO, "every %d", 3, number)
        tf.logging.log_if(tf.logging.INFO, "if %d", number == 4, number)
    results = messages.messages
    assert results == ["first 0", "every 0", "first 1", "every 3", "if 4"]


# Strings


def test_str_and_bytes_are_converted():
    assert tf.compat.as_bytes("\u00e9") == b"\xc3\xa9"
    assert tf.compat.as_text(b"\xc3\xa9") == tf.compat.as_str("\u00e9") == "\u00e9"
    assert [tf.compat.as_str_any(value) for value in (5, b"a", "b")] == ["5", "a", "b"]
    for convert in (tf.compat.as_bytes, tf.compat.as_text):
        with pytest.raises(TypeError, match="Expected str or bytes, got 5"):
            convert(5)
    assert isinstance(np.int64(1), tf.compat.integral_types)
    assert not isinstance(1.5, tf.compat.integral_types)


# Summaries


def test_summaries_are_accepted_and_write_nothing(session, tmp_path):
    loss = tf.constant(1.0)
    assert tf.summary.merge_all() is None
    tf.summary.scalar("loss (mean)", loss)
    tf.summary.histogram("loss", loss)
    tf.summary.image("pictures", tf.zeros([1, 2, 2, 3]), max_outputs=1)
    writer = tf.summary.FileWriter(str(tmp_path), tf.get_default_graph())
    writer.add_summary(session.run(tf.summary.merge_all()), 1)
    writer.flush()
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_eager_execution_is_disabled():
    tf.disable_v2_behavior()
    tf.disable_eager_execution()
    assert not tf.executing_eagerly()
    assert tf.is_tensor(tf.constant(1))
    assert tf.is_tensor(tf.Variable(1))
    assert not tf.is_tensor(np.zeros(1))
    assert int(tf.__version__.split(".")[0]) == 1


def test_interrupt_while_a_file_is_collected_is_raised_after_it_is_closed(monkeypatch):
    memory = pytest.importorskip("fsspec.implementations.memory")
    name = "memory://collected"
    end_interrupted(monkeypatch, memory.MemoryFile, "close", lambda: tf.gfile.GFile(name, "w").write("text"))
    assert tf.gfile.GFile(name).read() == "text"
