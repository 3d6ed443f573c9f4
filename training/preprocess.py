"""The preprocessing job: a zip of images becomes a training, a validation and a test set of one image size.

    python -m training.preprocess --input scenes.zip --output prepared --image-size 64

`manifest/manifest.json` says what came out of it: the classes, the images per set, the SHA-256 of the
content, which images were broken, and the settings. Bad data ends the job with a message and exit code 1,
and leaves nothing behind.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.archive import DataError, Entry, Listing, list_images
from training.dataset import ImageSet
from training.inference import decode, fit

SPLITS = ("train", "validation", "test")
LISTED = 100  # broken and ignored files that the manifest names; it counts them all


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides about the result, besides the data."""

    image_size: int
    validation_fraction: float
    test_fraction: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What became of one image file: the hash of its content, and what is wrong with it."""

    sha256: str
    problem: str | None


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    settings = Settings(
        image_size=options.image_size,
        validation_fraction=options.validation_fraction,
        test_fraction=options.test_fraction,
        seed=options.seed,
    )
    try:
        manifest = preprocess(
            find_zip(options.input), options.output, settings, max_bytes=int(options.max_gigabytes * 2**30)
        )
    except DataError as error:
        sys.exit(f"Preprocessing failed: {error}")
    for split in SPLITS:
        counts = manifest["images"][split]
        print(f"{split}: {sum(counts.values())} images, " + ", ".join(f"{k} {v}" for k, v in counts.items()))
    print(f"broken: {manifest['broken']['count']}  ignored: {manifest['ignored']['count']}")
    print(f"sha256={manifest['sha256']}", flush=True)


def preprocess(source: Path, output: Path, settings: Settings, *, max_bytes: int) -> dict[str, Any]:
    """Write the three sets and the manifest below `output`; gives the manifest.

    Everything is made beside its place first and moved there at the end. Raises DataError.
    """
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".preparing-", dir=output) as folder:
        scratch = Path(folder)
        listing, decoded, images = _decode_archive(source, scratch, settings.image_size, max_bytes)
        rows = _split_rows(listing, decoded, settings)
        everything = ImageSet(
            images=images,
            labels=np.array(
                [listing.classes.index(entry.label) for entry in listing.entries], dtype=np.int64
            ),
            classes=listing.classes,
            files=tuple(entry.name for entry in listing.entries),
        )
        for split in SPLITS:
            everything.select(rows[split], scratch / split)
        manifest = _manifest(source, listing, decoded, everything, rows, settings)
        (scratch / "manifest").mkdir()
        text = json.dumps(manifest, indent=2, ensure_ascii=False)
        (scratch / "manifest" / "manifest.json").write_text(text + "\n", encoding="utf-8")
        for name in (*SPLITS, "manifest"):
            _replace_files(scratch / name, output / name)
    return manifest


def find_zip(path: Path) -> Path:
    """The zip archive at `path`: the file itself, or the only one in that folder."""
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix.lower() == ".zip")
        if len(found) != 1:
            raise DataError(f"Expected one zip archive in {path}, found {len(found)}")
        return found[0]
    if not path.is_file():
        raise DataError(f"There is no zip archive {path}")
    return path


def _decode_archive(
    source: Path, scratch: Path, image_size: int, max_bytes: int
) -> tuple[Listing, list[Decoded], NDArray[np.uint8]]:
    """Every image of the archive once, in one array on disk."""
    try:
        archive = zipfile.ZipFile(source)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{source.name} is not a zip archive: {error}") from error
    with archive:
        listing = list_images(archive, max_bytes)
        shape = (len(listing.entries), image_size, image_size, 3)
        images = np.lib.format.open_memmap(scratch / "decoded.npy", mode="w+", dtype=np.uint8, shape=shape)

        def decode_entry(row: int) -> Decoded:
            content, problem = b"", None
            try:
                content = archive.read(listing.entries[row].name)
                images[row] = fit(decode(content), image_size)
            except (ValueError, zipfile.BadZipFile, NotImplementedError) as error:
                problem = str(error)
            return Decoded(sha256=hashlib.sha256(content).hexdigest(), problem=problem)

        # Decoding leaves Python's lock to others, so that threads do.
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            decoded = list(pool.map(decode_entry, range(len(listing.entries))))
    return listing, decoded, images


def _split_rows(listing: Listing, decoded: Sequence[Decoded], settings: Settings) -> dict[str, list[int]]:
    """The rows of each set: each class is divided on its own, by the seed, in the order of the names.

    Sets that the archive has are kept; one that it lacks is taken out of the training images.
    """
    rows: dict[str, list[int]] = {split: [] for split in SPLITS}
    given = {entry.split for entry in listing.entries}
    for label in listing.classes:
        of_class = [
            (row, entry)
            for row, (entry, image) in enumerate(zip(listing.entries, decoded, strict=True))
            if entry.label == label and image.problem is None
        ]
        for split in SPLITS[1:]:
            rows[split] += [row for row, entry in of_class if entry.split == split]
        rest = np.array([row for row, entry in of_class if entry.split in (None, "train")], dtype=np.int64)
        np.random.default_rng([settings.seed, listing.classes.index(label)]).shuffle(rest)
        for split, fraction in (
            ("test", settings.test_fraction),
            ("validation", settings.validation_fraction),
        ):
            if split not in given:
                count = max(1, round(fraction * len(rest)))
                rows[split] += rest[:count].tolist()
                rest = rest[count:]
        rows["train"] += rest.tolist()
        _check_filled(label, rows, listing, decoded)
    return {split: sorted(of_split) for split, of_split in rows.items()}


def _check_filled(
    label: str, rows: dict[str, list[int]], listing: Listing, decoded: Sequence[Decoded]
) -> None:
    for split in SPLITS:
        if not any(listing.entries[row].label == label for row in rows[split]):
            all_of = [i for i, entry in enumerate(listing.entries) if entry.label == label]
            readable = sum(decoded[row].problem is None for row in all_of)
            raise DataError(
                f"The class {label!r} is empty in the {split} set: "
                f"of its {len(all_of)} images {readable} could be read"
            )


def _manifest(
    source: Path,
    listing: Listing,
    decoded: Sequence[Decoded],
    images: ImageSet,
    rows: dict[str, list[int]],
    settings: Settings,
) -> dict[str, Any]:
    broken = [
        {"file": entry.name, "reason": image.problem}
        for entry, image in zip(listing.entries, decoded, strict=True)
        if image.problem is not None
    ]
    return {
        "source": source.name,
        "classes": list(listing.classes),
        "images": {
            split: {
                name: int(count)
                for name, count in zip(
                    listing.classes,
                    np.bincount(images.labels[rows[split]], minlength=len(listing.classes)),
                    strict=True,
                )
            }
            for split in SPLITS
        },
        "sha256": content_hash(listing.entries, decoded),
        "broken": {"count": len(broken), "files": broken[:LISTED]},
        "ignored": {"count": len(listing.ignored), "files": list(listing.ignored[:LISTED])},
        "settings": {
            "image_size": settings.image_size,
            "validation_fraction": settings.validation_fraction,
            "test_fraction": settings.test_fraction,
            "seed": settings.seed,
        },
    }


def content_hash(entries: Sequence[Entry], decoded: Sequence[Decoded]) -> str:
    """One hash for the images and their names, whatever packed them, when, and in which order."""
    digest = hashlib.sha256()
    for entry, image in zip(entries, decoded, strict=True):
        digest.update(f"{entry.name}\0{image.sha256}\n".encode())
    return digest.hexdigest()


def _replace_files(source: Path, target: Path) -> None:
    """Move the files of `source` into `target`, which may be there already (SageMaker makes it)."""
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.iterdir()):
        shutil.move(file, target / file.name)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Turn a zip of images into sets to train and test on.")
    parser.add_argument("--input", type=Path, required=True, help="zip archive, or the folder it is in")
    parser.add_argument("--output", type=Path, required=True, help="folder for the sets and the manifest")
    parser.add_argument("--image-size", type=int, default=64, help="width and height in pixels (64)")
    parser.add_argument("--validation-fraction", type=float, default=0.1, help="of the training images (0.1)")
    parser.add_argument(
        "--test-fraction", type=float, default=0.2, help="where the data has no test set (0.2)"
    )
    parser.add_argument("--seed", type=int, default=0, help="decides which image goes where (0)")
    parser.add_argument("--max-gigabytes", type=float, default=50, help="of the unpacked archive (50)")
    options = parser.parse_args(arguments)
    if not 8 <= options.image_size <= 1024:
        parser.error(f"--image-size {options.image_size}: from 8 to 1024")
    for name in ("validation_fraction", "test_fraction"):
        if not 0 < getattr(options, name) < 0.5:
            parser.error(f"--{name.replace('_', '-')} {getattr(options, name)}: more than 0, less than 0.5")
    return options


if __name__ == "__main__":
    main()
