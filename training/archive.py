"""Images in a zip archive: which there are, of which class, and for which set. Nothing is unpacked to disk.

Understood are zips of class folders (`<anything>/<class>/x.jpg`), and those that have the sets apart
(`seg_train/seg_train/<class>/x.jpg`, `test/<class>/x.jpg`), as the Intel Image Classification zip has.
"""

import stat
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"))
SET_FOLDERS = {
    "seg_train": "train",
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "seg_test": "test",
    "test": "test",
    "testing": "test",
}
MAX_FILE = 128 * 2**20  # bytes of one file in the archive, unpacked
MAX_RATIO = 200  # unpacked to packed, of a whole archive: images hardly shrink, bombs do
MAX_FILES = 5_000_000


class DataError(ValueError):
    """The data cannot be used; the message says why and which file it is."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One image of the archive. `split` is None where the archive doesn't say which set it is for."""

    name: str
    label: str
    split: str | None


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The images of an archive in the order of their names, and the files that are none of them."""

    entries: tuple[Entry, ...]
    ignored: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(sorted({entry.label for entry in self.entries}))

    @property
    def has_sets(self) -> bool:
        return self.entries[0].split is not None


def list_images(archive: zipfile.ZipFile, max_bytes: int) -> Listing:
    """The images of a checked archive. Raises DataError if it is unsafe or has an empty class."""
    check(archive.infolist(), max_bytes)
    names = sorted(info.filename for info in archive.infolist() if not _is_hidden(info.filename))
    files = [name for name in names if not name.endswith("/")]
    images = [name for name in files if _path(name).suffix.lower() in SUFFIXES and len(_path(name).parts) > 1]
    if not images:
        raise DataError("The archive has no images in class folders")
    found = [Entry(name=name, label=_path(name).parent.name, split=_split_of(name)) for name in images]
    # Where some images are in a set, the others (the Intel zip's seg_pred) have no label.
    entries = tuple(entry for entry in found if entry.split) or tuple(found)
    used = {entry.name for entry in entries}
    listing = Listing(entries=entries, ignored=tuple(name for name in files if name not in used))
    _check_folders(names, entries)
    _check_classes(listing)
    return listing


def check(entries: Sequence[zipfile.ZipInfo], max_bytes: int) -> None:
    """Refuse what could leave its folder, fill the disk, or not be what it says."""
    if len(entries) > MAX_FILES:
        raise DataError(f"The archive has {len(entries):,} files; at most {MAX_FILES:,} are read")
    seen: set[str] = set()
    for entry in entries:
        name = entry.filename
        # zipfile changes what some systems take for a separator; the name as it was written counts.
        written = entry.orig_filename
        parts = written.replace("\\", "/").split("/")
        if written.startswith(("/", "\\")) or written[1:2] == ":" or ".." in parts:
            raise DataError(f"The archive has a path that escapes its folder: {written!r}")
        if not written.isprintable():
            raise DataError(f"The archive has a file whose name cannot be printed: {written!r}")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise DataError(f"The archive has a symbolic link: {name!r}")
        if entry.flag_bits & 0x1:
            raise DataError(f"The archive has an encrypted file: {name!r}")
        if name in seen:
            raise DataError(f"The archive has two files of the same name: {name!r}")
        seen.add(name)
        if entry.file_size > MAX_FILE:
            raise DataError(f"{name!r} is {entry.file_size:,} bytes unpacked; at most {MAX_FILE:,} are read")
    unpacked = sum(entry.file_size for entry in entries)
    packed = sum(entry.compress_size for entry in entries)
    if unpacked > max_bytes:
        raise DataError(f"The archive is {unpacked:,} bytes unpacked; the limit is {max_bytes:,}")
    if unpacked > MAX_FILE and unpacked > MAX_RATIO * max(packed, 1):
        raise DataError(f"The archive unpacks {packed:,} bytes to {unpacked:,}: it looks like a zip bomb")


def _check_folders(names: Sequence[str], entries: Iterable[Entry]) -> None:
    """A folder beside the class folders that has no image in or below it is a class that came out empty."""
    class_folders = {_path(entry.name).parent for entry in entries}
    filled = {parent for folder in class_folders for parent in (folder, *folder.parents)}
    homes = {folder.parent for folder in class_folders}
    folders = {parent for name in names for parent in _path(name).parents}
    folders |= {_path(name) for name in names if name.endswith("/")}
    for folder in sorted(folders - filled):
        if folder.parent in homes:
            raise DataError(f"The class {folder.name!r} is empty: there is no image in {str(folder)!r}")


def _check_classes(listing: Listing) -> None:
    classes = listing.classes
    if len(classes) < 2:
        raise DataError(f"The archive has one class only, {classes[0]!r}; a classifier needs two or more")
    if not listing.has_sets:
        return
    for split in ("train", "test"):
        there = {entry.label for entry in listing.entries if entry.split == split}
        missing = [name for name in classes if name not in there]
        if there and missing:
            raise DataError(f"The class {missing[0]!r} is empty: it has no image in the {split} set")
    if not any(entry.split == "train" for entry in listing.entries):
        raise DataError("The archive has sets, but no training set")


def _split_of(name: str) -> str | None:
    """The set that a folder above the class folder names."""
    return next(
        (SET_FOLDERS[part.lower()] for part in _path(name).parts[:-2] if part.lower() in SET_FOLDERS), None
    )


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) or part == "Thumbs.db" for part in _path(name).parts)


def _path(name: str) -> PurePosixPath:
    return PurePosixPath(name.replace("\\", "/"))  # some Windows tools write their own separator
