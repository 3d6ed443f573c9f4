"""A set of labelled images on disk, as preprocessing writes it and training and evaluation read it.

One set is one folder, and one SageMaker channel: `images.npy` (N×H×W×3, uint8, read as a memory map),
`labels.npy` (N indices into `classes.json`), and `files.txt` (where each image came from, a line each).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROWS_AT_ONCE = 4096  # images copied in one go: bounds the memory that writing a large set takes


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Square RGB images of one size, their labels and the names of the classes."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    files: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_size(self) -> int:
        return int(self.images.shape[1])

    def counts(self) -> dict[str, int]:
        """How many images there are of each class."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return {name: int(count) for name, count in zip(self.classes, counts, strict=True)}

    def select(self, rows: Sequence[int] | NDArray[np.int64], folder: Path) -> None:
        """Write the images of these rows, in this order, as a set of its own."""
        chosen = np.asarray(rows, dtype=np.int64)
        folder.mkdir(parents=True, exist_ok=True)
        shape = (len(chosen), *self.images.shape[1:])
        images = np.lib.format.open_memmap(folder / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
        for start in range(0, len(chosen), ROWS_AT_ONCE):
            images[start : start + ROWS_AT_ONCE] = self.images[chosen[start : start + ROWS_AT_ONCE]]
        images.flush()
        np.save(folder / "labels.npy", self.labels[chosen])
        (folder / "classes.json").write_text(
            json.dumps(self.classes, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        (folder / "files.txt").write_text("".join(f"{self.files[row]}\n" for row in chosen), encoding="utf-8")


def read_image_set(folder: Path) -> ImageSet:
    """The set in `folder`; its images stay on disk until they are used."""
    missing = [name for name in ("images.npy", "labels.npy", "classes.json") if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} is no image set: {', '.join(missing)} missing. preprocess.py writes one."
        )
    # Copy on write: torch wants memory that it may write to, and the file stays as it is.
    images = np.load(folder / "images.npy", mmap_mode="c", allow_pickle=False)
    labels = np.load(folder / "labels.npy", allow_pickle=False)
    classes = tuple(json.loads((folder / "classes.json").read_text(encoding="utf-8")))
    names = folder / "files.txt"
    files = tuple(names.read_text(encoding="utf-8").splitlines()) if names.is_file() else ()
    if len(images) != len(labels):
        raise ValueError(f"{folder}: {len(images)} images but {len(labels)} labels")
    return ImageSet(images=images, labels=labels, classes=classes, files=files or ("",) * len(labels))
