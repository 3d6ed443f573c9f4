"""Draws a data set of six kinds of scenes, laid out as the Intel Image Classification zip is.

    python -m training.sample_data --output scenes.zip --seed 0

The same seed gives the same bytes.
"""

import argparse
import io
import multiprocessing
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.scenes import SCENES, draw_scene


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One image of the data set."""

    folder: str
    scene: str
    number: int
    seed: int

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.folder}/{self.scene}/{self.number}.jpg"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Draw a data set of six kinds of scenes.")
    parser.add_argument("--output", type=Path, required=True, help="zip archive to write")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same bytes (0)")
    parser.add_argument("--images-per-class", type=int, default=200, help="to train and to test on (200)")
    parser.add_argument("--test-fraction", type=float, default=0.2, help="of them to test on (0.2)")
    options = parser.parse_args(arguments)
    testing = round(options.images_per_class * options.test_fraction)
    training = options.images_per_class - testing
    if min(training, testing) < 1:
        parser.error(f"--images-per-class {options.images_per_class}: each class needs an image in each set")
    write_data_set(
        options.output, seed=options.seed, images_per_class=training, test_images_per_class=testing
    )
    count = len(SCENES) * options.images_per_class
    print(f"drew {count} images of {len(SCENES)} classes: {options.output}")


def write_data_set(path: Path, *, seed: int, images_per_class: int, test_images_per_class: int) -> None:
    """Write the zip archive; it is there whole, or not at all."""
    pictures = [
        Picture(folder=folder, scene=scene, number=number, seed=seed)
        for folder, count in (("seg_train", images_per_class), ("seg_test", test_images_per_class))
        for scene in SCENES
        for number in range(count)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    # Spawned, so that nothing of the caller (threads, locks) comes along.
    with (
        multiprocessing.get_context("spawn").Pool() as pool,
        zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive,
    ):
        for picture, content in zip(pictures, pool.imap(jpeg, pictures, chunksize=16), strict=True):
            archive.writestr(zipfile.ZipInfo(picture.path), content)  # dated 1980, whenever it is drawn
    partial.replace(path)


def jpeg(picture: Picture) -> bytes:
    """The picture as a file."""
    key = [
        picture.seed,
        ("seg_train", "seg_test").index(picture.folder),
        list(SCENES).index(picture.scene),
        picture.number,
    ]
    random = np.random.default_rng(key)
    buffer = io.BytesIO()
    draw_scene(picture.scene, random).save(buffer, "JPEG", quality=int(random.integers(72, 94)))
    return buffer.getvalue()


if __name__ == "__main__":
    main()
