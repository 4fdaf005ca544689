"""`Images`: a folder of images with a subfolder per class.

The folder is scanned each time a source is created (a second for a million files), so that new files are included. The
names are stored in a cache file that workers map; a pickle contains only the path of the cache file. The name of the
cache file is a digest of its content, so files with different content never have the same name.
"""

import hashlib
import io
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from mpqueue.dataset.description.ids import as_index
from mpqueue.errors import FileError
from mpqueue.files.access.names import FileExclusion, Names, folder_name
from mpqueue.files.access.opened import IndexedFile, read_whole
from mpqueue.files.access.urls import found_under, is_url
from mpqueue.files.indexing.index import Texts, files_key, open_or_make, packed
from mpqueue.files.indexing.index_file import Array, Arrays, IndexWriter
from mpqueue.files.indexing.kept import cache_folder
from mpqueue.files.sources.location import Location
from mpqueue.files.sources.source import checked_index
from mpqueue.system.signals.interrupts import not_of_handler
from mpqueue.system.units import count_text
from mpqueue.system.user_code.extras import import_extra
from mpqueue.system.user_code.keywords import suggests_keywords

_SUFFIXES = (b".jpg", b".jpeg", b".png", b".ppm", b".bmp", b".pgm", b".tif", b".tiff", b".webp")


@suggests_keywords
class Images:
    """Images of a folder with a subfolder per class: ``cat/1.jpg``, ``dog/some/where/2.png``.

    A sample is a dict: ``{"image": b"...", "label": 0, "path": "/data/cat/1.jpg"}``. Classes are numbered in the order
    of their names, and images are sorted by class and name. The indices are as in torchvision's ``ImageFolder``.

    Args:
        folder: The folder, a path or an fsspec URL. Its subfolders are the classes, and contain images at any depth.
        decode: Decode with Pillow: ``"image"`` is then a uint8 array of shape (height, width, 3) in RGB. Otherwise it
            is the bytes of the file.
        exclude: A pattern of images to exclude, or a list of patterns. A pattern without a slash is compared with the
            file's name. A class without any other images is excluded, too.
        index: The folder for the names of the files. If None, ``$XDG_CACHE_HOME/mpqueue``.

    Raises:
        TypeError: ``folder`` or ``index`` is not a path, or ``exclude`` is not a pattern.
        FileNotFoundError: The folder does not exist, has no subfolders, or a subfolder has no images. Or ``exclude``
            excludes all images.
        NotADirectoryError: The path is not a folder.
        ImportError: ``decode`` is True, and Pillow is not installed.

    Attributes:
        classes: The names of the classes.
        class_to_idx: The index of each class.

    Follows: torchvision's ``ImageFolder``, with its order, file suffixes and names.

    Example:
        >>> import mpqueue, pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("cat/1.jpg", "dog/1.jpg", "dog/2.jpg"):
        ...     (folder / name).parent.mkdir(exist_ok=True)
        ...     _ = (folder / name).write_bytes(b"not really an image")
        >>> images = mpqueue.files.Images(folder, index=folder)
        >>> len(images), images.classes, images[1]["label"]
        (3, ['cat', 'dog'], 1)
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        decode: bool = False,
        exclude: Names | None = None,
        index: str | os.PathLike[str] | None = None,
    ) -> None:
        if decode:
            _pillow()
        self._folder, self._decode, self._exclusion = folder_name(folder), decode, FileExclusion(exclude)
        self.classes, arrays = _walk(self._folder, self._exclusion)
        self.class_to_idx = {name: index for index, name in enumerate(self.classes)}
        self._length = len(arrays["labels"])
        kept = cache_folder(index)
        self._kept = os.path.join(kept, f"{_key(self._folder, self.classes, arrays)}.index")
        self._arrays: Mapping[str, Array] | None = open_or_make(self._kept, lambda writer: _write(arrays, writer))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_arrays": None}

    def __len__(self) -> int:
        return self._length

    if TYPE_CHECKING:  # Python iterates by `__getitem__`, and type checkers do not know that

        def __iter__(self) -> Iterator[Any]: ...

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a sample.

        Raises:
            IndexError: The index is out of range.
            FileError: The image cannot be decoded.
            OSError: The file cannot be read, for example because it was deleted.
        """
        index = checked_index(index, self._length, self)
        path = self._path(index)
        data = read_whole(path)
        image = _decoded(path, data) if self._decode else data
        return {"image": image, "label": int(self._mapped()["labels"][index]), "path": path}

    def locate(self, index: int) -> Location:
        """Return the file of an image, without reading the image.

        Args:
            index: The index of the image, from 0.

        Raises:
            TypeError: The index is not an integer.
            LookupError: The image does not exist.
            OSError: The file was deleted, for example.
        """
        path = self._path(as_index(index, self._length, repr(self)))
        return Location(path, 0, 0, IndexedFile.of(path).size)

    def fingerprint(self) -> str:
        """Return a key for caches, which changes if an image changes; it reads the state of each file."""
        # The folder decides which part of a path is the class.
        form = f"images in {self._folder}, decode={self._decode}"
        return files_key(form, 1, IndexedFile.of_all([self._path(index) for index in range(self._length)]))

    def _path(self, index: int) -> str:
        arrays = self._mapped()
        return os.path.join(self._folder, Texts(arrays["names"], arrays["name_ends"])[index])

    @property
    def index_path(self) -> str:
        """The file that contains the names."""
        return self._kept

    def __repr__(self) -> str:
        classes, samples = count_text(len(self.classes), "class", "classes"), count_text(len(self), "sample")
        return f"Images({self._folder}, {classes}, {samples})"

    def _mapped(self) -> Mapping[str, Array]:
        if self._arrays is None:  # after unpickling; on another machine the file may not exist yet
            self._arrays = open_or_make(self._kept, self._write_again)
        return self._arrays

    def _write_again(self, writer: IndexWriter) -> None:
        classes, arrays = _walk(self._folder, self._exclusion)
        if f"{_key(self._folder, classes, arrays)}.index" != os.path.basename(self._kept):
            raise FileError(self._folder, None, "its files differ from the files with which the source was created")
        _write(arrays, writer)


def _walk(folder: str, exclusion: FileExclusion) -> tuple[list[str], Arrays]:
    """Return the classes of a folder, and the arrays of its images: names relative to the folder, and labels."""
    names_of = _found_at_url(folder) if is_url(folder) else _found(folder)
    if not names_of:
        raise FileNotFoundError(f"{folder} has no folders with images, expected one for each class")
    for name, images in names_of.items():
        if not images:
            suffixes = b", ".join(_SUFFIXES).decode()
            raise FileNotFoundError(f"the class {name!r} of {folder} has no images: files that end in {suffixes}")
    if exclusion:  # it takes as long as the scan
        names_of = _rest_of(folder, names_of, exclusion)
    classes = sorted(names_of, key=os.fsencode)
    text, ends = packed([image for name in classes for image in names_of[name]])
    labels = np.repeat(np.arange(len(classes)), [len(names_of[name]) for name in classes])
    return classes, {"names": text, "name_ends": ends, "labels": labels}


def _rest_of(folder: str, names_of: dict[str, list[bytes]], exclusion: FileExclusion) -> dict[str, list[bytes]]:
    """Return the images of each class that are not excluded, and only classes with such images."""
    left = {*exclusion.rest_of([f"{folder}/{os.fsdecode(image)}" for images in names_of.values() for image in images])}
    rest = {
        name: [image for image in images if f"{folder}/{os.fsdecode(image)}" in left]
        for name, images in names_of.items()
    }
    return {name: images for name, images in rest.items() if images}


def _found_at_url(folder: str) -> dict[str, list[bytes]]:
    """Return the images of each class at a URL, where folders are only parts of names."""
    parts_of: dict[str, list[tuple[bytes, bytes]]] = {}
    for path in found_under(folder):
        name = os.fsencode(path)
        if b"/" in name and name.lower().endswith(_SUFFIXES):
            parts_of.setdefault(path.partition("/")[0], []).append(os.path.split(name))
    return {name: [os.path.join(*each) for each in sorted(parts)] for name, parts in parts_of.items()}


def _found(folder: str) -> dict[str, list[bytes]]:
    """Return the images of each class, sorted by folder and then by name.

    Raises:
        FileError: A link leads back to a folder that contains it.
    """
    with os.scandir(folder) as entries:
        classes = [entry.name for entry in entries if entry.is_dir()]
    return {name: _images(os.fsencode(folder), os.fsencode(name)) for name in classes}


def _images(folder: bytes, inner: bytes) -> list[bytes]:
    names_by_folder: list[tuple[bytes, list[bytes]]] = []
    # A folder can be named like an image.
    for path, folders, files in os.walk(os.path.join(folder, inner), onerror=_raise, followlinks=True):
        for name in folders:
            _check_link(os.path.join(path, name))
        names = sorted(name for name in files if name.lower().endswith(_SUFFIXES))
        names_by_folder.append((os.path.relpath(path, folder), names))
    return [relative + b"/" + name for relative, names in sorted(names_by_folder) for name in names]


def _raise(error: OSError) -> NoReturn:
    raise error


def _check_link(path: bytes) -> None:
    """Raise a `FileError` for a link to a folder that contains it, which would be followed forever."""
    name = os.fsdecode(path)
    if os.path.islink(name) and any(os.path.samefile(name, above) for above in pathlib.Path(name).parents):
        raise FileError(name, None, "this link leads back to a folder that contains it: remove the link")


def _key(folder: str, classes: Sequence[str], arrays: Arrays) -> str:
    key = hashlib.sha256(b"images 1")
    for part in (
        os.fsencode(folder),
        b"\0".join(map(os.fsencode, classes)),
        *(arrays[name].tobytes() for name in arrays),
    ):
        key.update(len(part).to_bytes(8, "little") + part)
    return key.hexdigest()


def _write(arrays: Arrays, writer: IndexWriter) -> None:
    for name, array in arrays.items():
        writer.add(name, array)


def _pillow() -> Any:
    return import_extra("PIL.Image", 'Images(..., decode=True) needs Pillow: pip install "mpqueue[files]"')


def _decoded(path: str, data: bytes) -> Array:
    try:
        with _pillow().open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except not_of_handler(Exception) as error:  # Pillow's plugins raise various errors for damaged files
        raise FileError(path, None, f"it cannot be decoded: {type(error).__name__}: {error}") from error
