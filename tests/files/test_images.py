"""Folders of images: torchvision's numbers, and errors of invalid folders and images."""

import io
import os
import pickle

import numpy as np
import pytest
from PIL import Image

import mpqueue
from mpqueue.errors import FileError
from mpqueue.files import Images


def encoded(colour, form="png", mode="RGB"):
    file = io.BytesIO()
    Image.new("RGB", (4, 3), colour).convert(mode).save(file, form)
    return file.getvalue()


def put(folder, files):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


@pytest.fixture
def folder(tmp_path):
    return put(
        tmp_path / "photos",
        {
            "dog/b.png": encoded((0, 0, 200)),
            "dog/a/x.PNG": encoded((1, 0, 0)),
            "dog/a-b/x.png": encoded((2, 0, 0), mode="L"),
            "dog/a/y.txt": b"no image",
            "cat/1.png": encoded((3, 0, 0), mode="P"),
            "cat/.hidden.png": encoded((4, 0, 0)),
            "cat/x.png/2.png": encoded((5, 0, 0)),
            "readme.png": b"in no class",
        },
    )


def test_numbers_and_labels_equal_those_of_torchvision(folder):
    images = Images(folder)
    assert images.classes == ["cat", "dog"]
    assert images.class_to_idx == {"cat": 0, "dog": 1}
    # Sorted by folder, as strings, and then by name.
    names = ["cat/.hidden.png", "cat/1.png", "cat/x.png/2.png", "dog/b.png", "dog/a/x.PNG", "dog/a-b/x.png"]
    assert [sample["path"] for sample in images] == [f"{os.path.realpath(folder)}/{name}" for name in names]
    assert [sample["label"] for sample in images] == [0, 0, 0, 1, 1, 1]
    assert [sample["image"] for sample in images] == [(folder / name).read_bytes() for name in names]
    assert images[-1]["path"] == images[5]["path"]
    assert repr(images) == f"Images({os.path.realpath(folder)}, 2 classes, 6 samples)"


def test_images_are_decoded_to_rgb(folder):
    images = Images(folder, decode=True)
    for sample in images:
        assert sample["image"].dtype == np.uint8
        assert sample["image"].shape == (3, 4, 3)
    assert images[3]["image"][0, 0].tolist() == [0, 0, 200]


def test_added_images_appear_in_a_new_source(folder):
    before = Images(folder)
    put(folder, {"dog/new.png": encoded((9, 9, 9))})
    assert len(Images(folder)) == len(before) + 1 == 7
    assert len(list(before)) == 6


@pytest.mark.parametrize("change", [False, True])
def test_copy_on_another_machine_creates_its_list_again(folder, change, tmp_path):
    """The list must be the same."""
    images = Images(folder, index=tmp_path / "kept")
    copy = pickle.loads(pickle.dumps(images))
    os.unlink(images.index_path)
    if not change:
        assert copy[1] == images[1]
        return
    put(folder, {"dog/new.png": b"x"})
    with pytest.raises(FileError, match="its files differ"):
        copy[1]


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({}, FileNotFoundError, "photos"),
        ({"a.png": b""}, FileNotFoundError, "has no folders"),
        ({"a/x.png": b"", "b/x.txt": b""}, FileNotFoundError, "the class 'b' .* has no images: files that end in .jpg"),
    ],
)
def test_folder_without_images_raises(tmp_path, files, error, message):
    put(tmp_path / "photos", files)
    with pytest.raises(error, match=message):
        Images(tmp_path / "photos")


def test_file_instead_of_a_folder_raises(folder):
    with pytest.raises(NotADirectoryError):
        Images(folder / "readme.png")


def test_link_to_a_parent_folder_raises(folder):
    (folder / "dog" / "again").symlink_to(folder / "dog")
    with pytest.raises(FileError, match="again: this link leads back"):
        Images(folder)


def test_cached_samples_of_a_changed_image_are_computed_again(folder, tmp_path):
    for data in (b"first", b"second"):
        put(folder, {"cat/1.png": data})
        dataset = mpqueue.Dataset(Images(folder)).cache(tmp_path / "cache")
        assert [sample["image"] for sample in dataset][1] == data


def test_links_to_other_folders_are_followed(folder, tmp_path):
    put(tmp_path / "more", {"z.png": b"z"})
    (folder / "dog" / "z").symlink_to(tmp_path / "more")
    assert Images(folder)[6]["image"] == b"z"


def test_path_that_has_become_a_fifo_does_not_block(folder):
    images = Images(folder)
    os.unlink(folder / "dog" / "b.png")
    os.mkfifo(folder / "dog" / "b.png")
    with pytest.raises(FileError, match=r"b\.png: it is not a regular file"):
        images[3]
    os.unlink(folder / "dog" / "b.png")
    with pytest.raises(FileNotFoundError):
        images[3]
