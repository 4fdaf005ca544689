"""Tar archives: samples as in WebDataset, and archives that are broken or malicious."""

import gzip
import os
import random
import subprocess
import tarfile

import numpy as np
import pytest
from helpers.file_formats import write_tar
from hypothesis import given
from hypothesis import strategies as st

import mpqueue
from mpqueue.errors import FileError
from mpqueue.files import Tar, TarStream
from mpqueue.files.access.window import open_window
from mpqueue.files.indexing.index import Index
from mpqueue.files.tar.headers import Headers
from mpqueue.files.tar.tar import scan

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def members(path):
    with open_window(str(path)) as window:
        yield from Headers(window)


def archive(path, contents, form="gnu", mtime=0):
    options = {"format": FORMATS[form], "encoding": "utf-8", "errors": "surrogateescape"}
    return write_tar(path, contents, mtime=mtime, **options)


def of_kind(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


KEYS = [f"train/{i:03d}" for i in range(20)]
PAIRS = [pair for i, key in enumerate(KEYS) for pair in ((f"{key}.jpg", b"j" * 700 * i), (f"{key}.cls", b"%d" % i))]


def test_members_with_one_stem_form_a_sample(tmp_path):
    tar = Tar(archive(tmp_path / "a.tar", PAIRS))
    assert len(tar) == 20
    assert tar[3] == {"__key__": "train/003", "jpg": b"j" * 2100, "cls": b"3"}
    assert tar[-1] == tar[19]
    assert tar[np.int64(2)]["cls"] == b"2"
    assert list(tar) == tar.__getitems__(range(20)) == [tar[i] for i in range(20)]
    assert tar.__getitems__([7, 7, 0]) == [tar[7], tar[7], tar[0]]
    with pytest.raises(TypeError):
        tar["a"]


def test_several_files_are_one_source(tmp_path):
    archive(tmp_path / "a-0.tar", PAIRS[:10])
    archive(tmp_path / "a-1.tar", [])
    archive(tmp_path / "a-2.tar", [("x.TXT", b"1"), ("y.cls", b"2"), *PAIRS[10:]])
    tar = Tar(str(tmp_path / "a-{0..2}.tar"))
    assert [sample["__key__"] for sample in tar] == [*KEYS[:5], "x", "y", *KEYS[5:]]
    assert tar[5] == {"__key__": "x", "txt": b"1"}
    assert tar[6] == {"__key__": "y", "cls": b"2"}
    assert repr(tar).startswith("Tar(3 files, 22 samples, ")


@pytest.mark.sample(7)
@pytest.mark.parametrize(
    ("name", "key", "suffix"),
    [
        ("a.jpg", "a", "jpg"),
        ("a.seg.PNG", "a", "seg.png"),
        ("x.y/a.b.jpg", "x.y/a", "b.jpg"),
        ("./a.jpg", "./a", "jpg"),
        ("/etc/passwd.txt", "/etc/passwd", "txt"),
        ("../../up.txt", "../../up", "txt"),
        ("a.", "a", ""),
        ("n" * 120 + "/" + "m" * 200 + ".txt", "n" * 120 + "/" + "m" * 200, "txt"),
        ("zwölf.txt", "zwölf", "txt"),
        (os.fsdecode(b"\xff.txt"), os.fsdecode(b"\xff"), "txt"),
    ],
)
@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_a_key_ends_at_the_first_dot(tmp_path, name, key, suffix, form):
    """Names are only strings: no file is ever extracted."""
    if form == "pax" and not name.isprintable():
        name = name.encode("utf-8", "surrogateescape").decode("latin-1")
        key = key.encode("utf-8", "surrogateescape").decode("latin-1")
    tar = Tar(archive(tmp_path / "a.tar", [(name, b"data")], form))
    assert tar[0] == {"__key__": key, suffix: b"data"}


def test_prefix_of_a_ustar_name_may_have_one_character(tmp_path):
    (sample,) = Tar(archive(tmp_path / "a.tar", [("x/" + "n" * 98 + ".b", b"1")], "ustar"))
    assert sample == {"__key__": "x/" + "n" * 98, "b": b"1"}


def test_members_without_a_stem_and_links_are_skipped(tmp_path):
    contents = [
        (of_kind("folder.d", tarfile.DIRTYPE), b""),
        (of_kind("link.txt", tarfile.SYMTYPE, "/etc/passwd"), b""),
        (of_kind("hard.txt", tarfile.LNKTYPE, "../../etc/shadow"), b""),
        (of_kind("device.txt", tarfile.CHRTYPE), b""),
        (of_kind("fifo.txt", tarfile.FIFOTYPE), b""),
        ("README", b"no dot"),
        ("a/.hidden", b"no stem"),
        ("one.txt", b"1"),
    ]
    assert list(Tar(archive(tmp_path / "a.tar", contents))) == [{"__key__": "one", "txt": b"1"}]


def test_stem_that_appears_again_later_is_another_sample(tmp_path):
    tar = Tar(archive(tmp_path / "a.tar", [("a.x", b"1"), ("b.x", b"2"), ("a.x", b"3")]))
    assert [(sample["__key__"], sample["x"]) for sample in tar] == [("a", b"1"), ("b", b"2"), ("a", b"3")]


def test_duplicate_member_of_a_sample_raises(tmp_path):
    with pytest.raises(FileError, match=r"a\.tar, byte 1,536: a sample has two members 'a\.X'"):
        Tar(archive(tmp_path / "a.tar", [("a.x", b"1"), ("a.X", b"2")]))


@pytest.mark.parametrize("source", [Tar, TarStream])
def test_member_that_would_replace_the_key_raises(tmp_path, source):
    with pytest.raises(FileError, match=r"a\.tar, byte 512: a sample has two members 'a\.__key__'"):
        list(source(archive(tmp_path / "a.tar", [("a.__key__", b"other"), ("a.x", b"1")])))


@pytest.mark.parametrize("source", [Tar, TarStream])
def test_name_with_a_zero_byte_raises(tmp_path, source):
    """Otherwise the index would assign the suffixes of all later members to wrong members."""
    info = tarfile.TarInfo("a.x")
    info.pax_headers = {"path": "a.x\0y"}
    with pytest.raises(FileError, match=r"'a\.x\\x00y' is not a valid name"):
        list(source(archive(tmp_path / "a.tar", [(info, b"1"), ("a.z", b"2")], "pax")))


@given(
    contents=st.lists(st.tuples(st.text("ab./é", min_size=1, max_size=160), st.integers(0, 1500)), max_size=8),
    form=st.sampled_from(list(FORMATS)),
    mtime=st.sampled_from([0, 1.5]),
)
def test_members_equal_those_of_tarfile(tmp_path_factory, contents, form, mtime):
    path = tmp_path_factory.mktemp("a") / "a.tar"
    contents = [(name, bytes(size)) for name, size in contents if name.strip("/")]
    if form == "ustar":
        contents = [(name.replace("é", "e")[:90], data) for name, data in contents]
    archive(path, contents, form, mtime=mtime)
    with tarfile.open(path) as file:
        expected = [(os.fsencode(info.name), info.offset_data, info.size) for info in file if info.isreg()]
    found = [(name.rstrip(b"/") or name, offset, size) for name, offset, size in members(path)]
    assert found == [(name.rstrip(b"/") or name, offset, size) for name, offset, size in expected]


def test_size_beyond_octal_is_read(tmp_path):
    """GNU's and star's format for members above 8 GB; the archive is a sparse file of that length."""
    info = tarfile.TarInfo("big.bin")
    info.size = 9 << 30
    with open(tmp_path / "a.tar", "wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.seek(512 + (9 << 30) + 1024 - 1)
        file.write(b"\0")
    assert list(members(tmp_path / "a.tar")) == [(b"big.bin", 512, 9 << 30)]


def header(**fields):
    info = tarfile.TarInfo(fields.pop("name", "a.txt"))
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT)


def with_size(field, kind=b"0", *, has_longer_map=False):
    """Return a header with this size field and a valid checksum."""
    head = bytearray(header())
    head[124:136], head[156:157], head[148:156] = field.ljust(12, b"\0"), kind, b" " * 8
    head[482] = has_longer_map
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


@pytest.mark.sample(5)
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "byte 0: it is empty"),
        (b"x" * 2000, "byte 0: it is not a tar archive"),
        (header()[:300] + b"x" + header()[301:], "byte 0: the header's checksum is wrong"),
        (header(size=10**9) + bytes(2048), r"byte 0: 'a\.txt' has 1,000,000,000 bytes, but only 2,048 bytes follow"),
        (with_size(b"\x80" + b"\xff" * 11) + bytes(2048), "'a.txt' has 309,485,009,821,345,068,724,781,055 bytes"),
        (with_size(b"\xff" * 12) + bytes(2048), "expected a number"),
        (with_size(b"-1") + bytes(2048), "byte 512: .*b'-1'"),
        (with_size(b"1_0") + bytes(2048), "b'1_0'"),
        (with_size(b"9") + bytes(2048), "b'9'"),
        (with_size(b"77777777777", b"L") + bytes(2048), "got 8,589,934,591"),
        (with_size(b"77777777777", b"x") + bytes(2048), "got 8,589,934,591"),
        (with_size(b"20", b"x") + b"99999 path=a\n".ljust(512, b"\0") + bytes(2048), "pax header is damaged"),
        (with_size(b"20", b"x") + b"path=a\n".ljust(512, b"\0") + bytes(2048), "pax header is damaged"),
        (with_size(b"20", b"x") + b"0 path=a\n".ljust(512, b"\0") + bytes(2048), "pax header is damaged"),
        (with_size(b"26", b"g") + b"22 GNU.sparse.major=1\n".ljust(512, b"\0") + bytes(2048), "global pax header"),
        (with_size(b"0", b"S")[:482] + b"x" + with_size(b"0", b"S")[483:] + bytes(2048), "checksum is wrong"),
        (with_size(b"0", b"S", has_longer_map=True) + bytes(100), "truncated"),
        (with_size(b"12", b"g") + b"10 path=a\n".ljust(512, b"\0") + bytes(2048), "global pax header"),
        (with_size(b"14", b"x") + b"12 size=-10\n".ljust(512, b"\0") + header() + bytes(2048), "b'-10'"),
    ],
)
def test_wrong_header_raises_an_error_with_its_position(tmp_path, data, message):
    if "512" in message:
        data = header() + data
    if "expected a number" in message or message.startswith("b'") or "'-10'" in message:
        data = header() + data  # the first header determines whether the file is an archive
    path = tmp_path / "a.tar"
    path.write_bytes(data)
    with pytest.raises(FileError, match=message):
        Tar(path)


@pytest.mark.parametrize(
    "form", ["--format=gnu", *(f"--format=pax --sparse-version={v}" for v in ("0.0", "0.1", "1.0"))]
)
def test_sparse_member_raises_by_name_and_other_samples_are_read(tmp_path, form):
    version = subprocess.run(["tar", "--version"], capture_output=True, text=True, check=False).stdout
    if "GNU tar" not in version:
        pytest.skip("GNU tar writes the sparse members")
    for name in ("a.bin", "b.cls", "c.bin"):
        (tmp_path / name).write_bytes(name.encode())
    with open(tmp_path / "b.bin", "wb") as file:
        for number in range(60):  # more pieces than fit into one header
            file.seek(number * 20_000)
            file.write(b"%d" % number)
    names = ["a.bin", "b.cls", "b.bin", "c.bin"]
    subprocess.run(["tar", "-S", *form.split(), "-cf", "s.tar", *names], check=True, cwd=tmp_path)
    with tarfile.open(tmp_path / "s.tar") as file:
        if not file.getmember("b.bin").issparse():
            pytest.skip("the file system has no sparse files")
    tar = Tar(tmp_path / "s.tar")
    assert [tar[0], tar[2]] == [{"__key__": "a", "bin": b"a.bin"}, {"__key__": "c", "bin": b"c.bin"}]
    with pytest.raises(FileError, match=r"s\.tar, byte [\d,]+: member 'b\.bin' is a sparse .*without `tar --sparse`"):
        tar[1]
    assert tar.locate(1) == (str(tmp_path / "s.tar"), 1, None, None)
    with mpqueue.Loader(tar, batch_size=3, workers=0, on_error="skip", max_errors=1) as loader:
        assert [batch["__key__"] for batch in loader] == [["a", "c"]]
    iterator = iter(TarStream(tmp_path / "s.tar"))
    assert next(iterator)["__key__"] == "a"
    with pytest.raises(FileError, match=r"member 'b\.bin' is a sparse file"):
        next(iterator)
    assert [sample["__key__"] for sample in iterator] == ["c"]
    assert [sample["__key__"] for sample in TarStream(tmp_path / "s.tar", on_error="skip")] == ["a", "c"]


@pytest.mark.parametrize("data", [b"", b"x" * 2000, b"\x1f\x8b\x08" + b"x" * 2000])
def test_on_error_skip_rejects_a_file_that_is_not_an_archive(tmp_path, data):
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(FileError, match=r"a\.tar, byte 0"):
        Tar(tmp_path / "a.tar", on_error="skip")


def test_random_changes_raise_or_return_samples_of_the_file(tmp_path):
    """An error, or samples with bytes of the file: no hang, no other exception."""
    whole = archive(tmp_path / "a.tar", [*PAIRS[:8], ("n" * 200 + ".txt", b"1")], "pax", mtime=0.5).read_bytes()
    draw, path, errors = random.Random(0), tmp_path / "changed.tar", 0
    for _ in range(500):
        changed = bytearray(whole)
        for _ in range(draw.choice([1, 3, 20])):
            changed[draw.randrange(len(whole))] = draw.choice([0, 255, 128, ord("7"), draw.randrange(256)])
        path.write_bytes(changed)
        try:
            for _, offset, size in members(path):
                assert 0 <= offset <= offset + size <= len(whole)
        except FileError:
            errors += 1
    assert errors > 50


def keys_of(path):
    """Return the keys of an archive by index, which equal the keys of the stream."""
    keys = [sample["__key__"] for sample in Tar(path)]
    assert [sample["__key__"] for sample in TarStream(path)] == keys
    return keys


def error_of(path):
    """Return the error of an archive by index, which equals the error of the stream."""
    with pytest.raises(FileError) as caught:
        Tar(path)
    with pytest.raises(FileError) as of_stream:
        list(TarStream(path))
    assert caught.value.offset == of_stream.value.offset
    assert caught.value.what.startswith(of_stream.value.what)
    return caught.value


def position_of_error(path):
    with pytest.raises(FileError) as caught:
        list(members(path))
    return caught.value.offset


SMALL = [(name, b"j" * 700) for name, _ in PAIRS]


@pytest.mark.sample(1)
@pytest.mark.parametrize("form", FORMATS)
def test_archive_with_zeros_from_any_block_on_raises(tmp_path, form):
    """As after an interrupted download into a file of the final size. In the last record, zeros may be padding."""
    path = archive(tmp_path / "a.tar", SMALL, form, mtime=0.5)
    whole = path.read_bytes()
    for start in range(0, len(whole) - 24 * 512, 512):
        path.write_bytes(whole[:start] + bytes(len(whole) - start))
        assert start <= position_of_error(path) < start + 3 * 512


@pytest.mark.sample(5)
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("num_blocks", [1, 2, 3, 6, 12, 24])
def test_zeros_in_place_of_a_header_raise(tmp_path, form, num_blocks):
    """Except cuts where an archive after another begins, and in the data, which has no checksum."""
    path = archive(tmp_path / "a.tar", SMALL, form, mtime=0.5)
    whole = path.read_bytes()
    starts = [offset - 512 for _, offset, _ in members(path)][:-10]
    for start in [start for start in starts if (start + 512 * num_blocks) % 10_240]:
        path.write_bytes(whole[:start] + bytes(512 * num_blocks) + whole[start + 512 * num_blocks :])
        assert start <= position_of_error(path) <= start + 512 * num_blocks


@pytest.mark.parametrize("size", [11_264, 266_240, 1 << 20])
def test_file_of_zeros_is_not_an_archive(tmp_path, size):
    path = tmp_path / "a.tar"
    path.write_bytes(bytes(size))
    for on_error in ("raise", "skip"):
        with pytest.raises(FileError, match=r"a\.tar, byte 0: more than 10,752 zeros follow"):
            Tar(path, on_error=on_error)
    with pytest.raises(FileError, match=r"a\.tar, byte 0: more than 10,752 zeros follow"):
        list(TarStream(path))


def test_archives_one_after_another_are_all_read(tmp_path):
    """Also after an empty one, with a single member each, and without padding, as Go writes them."""
    single = archive(tmp_path / "c.tar", [("train/000.cls", b"9")]).read_bytes()
    parts = [
        archive(tmp_path / "b.tar", []).read_bytes(),
        archive(tmp_path / "a.tar", PAIRS).read_bytes(),
        single,
        single[: len(single.rstrip(b"\0")) + 511 & -512] + bytes(1024),
        single,
    ]
    path = tmp_path / "d.tar"
    path.write_bytes(b"".join(parts))
    assert keys_of(path) == [*KEYS, *["train/000"] * 3]
    (tmp_path / "e.tar.gz").write_bytes(b"".join(map(gzip.compress, parts)))
    assert [sample["__key__"] for sample in TarStream(tmp_path / "e.tar.gz")] == keys_of(path)
    path.write_bytes(parts[1] + single[:512])
    assert error_of(path).offset == len(parts[1])


@pytest.mark.sample(1)
@pytest.mark.parametrize("command", [["tar", "-cf"], ["tar", "-b1", "-cf"], ["tar", "-b20", "-cf"]])
def test_end_of_an_archive_of_gnu_tar_is_accepted(tmp_path, command):
    for number in range(19, 0, -1):  # the padding has every possible length
        (tmp_path / f"{number:03d}.txt").write_bytes(b"x" * number)
        names = sorted(path.name for path in tmp_path.glob("*.txt"))
        subprocess.run([*command, "a.tar", *names], check=True, cwd=tmp_path)
        assert keys_of(tmp_path / "a.tar") == [name[:3] for name in names]


def test_zeros_that_follow_the_long_name_of_a_member_raise(tmp_path):
    whole = archive(tmp_path / "a.tar", [("a.x", b"1"), ("n" * 200 + ".x", b"2")]).read_bytes()
    end = 2 * 512 + 2 * 512  # the first member, and the long name
    (tmp_path / "a.tar").write_bytes(whole[:end] + bytes(10_240 - end))
    assert error_of(tmp_path / "a.tar").offset == end


def test_on_error_skip_reads_the_samples_before_zeros(tmp_path, caplog):
    whole = archive(tmp_path / "a.tar", PAIRS)
    data = whole.read_bytes()
    (tmp_path / "b.tar").write_bytes(data[:30_720] + bytes(len(data) - 30_720))
    samples = Tar(tmp_path / "?.tar", on_error="skip")
    assert 5 < len(samples) - 20 < 10
    assert caplog.records and all("b.tar, byte " in record.getMessage() for record in caplog.records)
    assert [sample["__key__"] for sample in TarStream([tmp_path / "b.tar", whole], on_error="skip")][-20:] == KEYS


def test_index_that_an_older_version_stored_is_not_used(tmp_path):
    path = archive(tmp_path / "a.tar", PAIRS)
    path.write_bytes(path.read_bytes() * 2)
    old = Index("tar", 2, [str(path)], half_of_the_archives, tmp_path)
    assert len(old["member_ends"]) == 20
    assert len(Tar(path, index=tmp_path)) == 40


def half_of_the_archives(path):
    arrays = scan(path)
    return arrays | {name: arrays[name][: len(arrays[name]) // 2] for name in ("member_ends", "key_ends")}
