"""Preprocessing: which images go where, and which archives are refused."""

import io
import json
import stat
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training import archive
from training.dataset import read_image_set
from training.preprocess import main

Write = Callable[..., Path]


def picture(
    colour: str = "red", image_format: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (20, 20)
) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).convert(mode).save(buffer, image_format)
    return buffer.getvalue()


def zip_of(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as target:
        for name, content in files.items():
            target.writestr(zipfile.ZipInfo(name), content)
    return path


def folders(counts: Mapping[str, int], top: str = "") -> dict[str, bytes]:
    return {
        f"{top}{label}/{number}.png": picture(image_format="PNG", size=(20 + number, 20))
        for label, count in counts.items()
        for number in range(count)
    }


def failure_of(source: Path, output: Path) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["--input", str(source), "--output", str(output), "--image-size", "16"])
    assert list(output.iterdir()) == []
    return str(stopped.value.code)


def test_class_folders_are_divided_by_class_and_seed(tmp_path: Path) -> None:
    source = zip_of(tmp_path / "shapes.zip", folders({"circle": 20, "square": 10}, top="shapes/"))

    for output, seed in (("a", "0"), ("again", "0"), ("b", "1")):
        main(
            ["--input", str(source), "--output", str(tmp_path / output), "--image-size", "16", "--seed", seed]
        )

    manifest = json.loads((tmp_path / "a/manifest/manifest.json").read_text())
    assert manifest | {"sha256": ""} == {
        "source": "shapes.zip",
        "classes": ["circle", "square"],
        "images": {
            "train": {"circle": 14, "square": 7},
            "validation": {"circle": 2, "square": 1},
            "test": {"circle": 4, "square": 2},
        },
        "sha256": "",
        "broken": {"count": 0, "files": []},
        "ignored": {"count": 0, "files": []},
        "settings": {"image_size": 16, "validation_fraction": 0.1, "test_fraction": 0.2, "seed": 0},
    }
    sets = {
        name: [read_image_set(tmp_path / name / split) for split in ("train", "validation", "test")]
        for name in ("a", "again", "b")
    }
    files = {name: [of.files for of in three] for name, three in sets.items()}
    assert sorted(name for of in files["a"] for name in of) == sorted(
        folders({"circle": 20, "square": 10}, "shapes/")
    )
    assert files["a"] == files["again"] != files["b"]
    assert [of.images.shape for of in sets["a"]] == [(21, 16, 16, 3), (3, 16, 16, 3), (6, 16, 16, 3)]
    assert all(
        of.files[i].split("/")[1] == of.classes[of.labels[i]] for of in sets["a"] for i in range(len(of))
    )


def test_the_intel_layout_keeps_its_test_set_and_leaves_out_what_has_no_label(tmp_path: Path) -> None:
    files = {
        **folders({"forest": 10, "sea": 10}, "seg_train/seg_train/"),
        **folders({"forest": 3, "sea": 2}, "seg_test/seg_test/"),
        "seg_pred/seg_pred/1.jpg": picture(image_format="JPEG"),
        "__MACOSX/seg_train/._1.jpg": b"",
    }
    source = zip_of(tmp_path / "intel.zip", files)

    main(["--input", str(tmp_path), "--output", str(tmp_path / "out"), "--image-size", "16"])

    manifest = json.loads((tmp_path / "out/manifest/manifest.json").read_text())
    assert manifest["source"] == source.name
    assert manifest["classes"] == ["forest", "sea"]
    assert manifest["images"] == {
        "train": {"forest": 9, "sea": 9},
        "validation": {"forest": 1, "sea": 1},
        "test": {"forest": 3, "sea": 2},
    }
    assert manifest["ignored"] == {"count": 1, "files": ["seg_pred/seg_pred/1.jpg"]}


def test_broken_images_are_counted_and_named(tmp_path: Path) -> None:
    whole = picture(image_format="JPEG", size=(64, 64))
    files = folders({"a": 5, "b": 5}) | {
        "a/text.png": b"no image",
        "b/cut.jpg": whole[: len(whole) // 2],
        "a/empty.gif": b"",
    }
    source = zip_of(tmp_path / "x.zip", files)

    main(["--input", str(source), "--output", str(tmp_path / "out"), "--image-size", "16"])

    manifest = json.loads((tmp_path / "out/manifest/manifest.json").read_text())
    assert manifest["broken"] == {
        "count": 3,
        "files": [
            {"file": "a/empty.gif", "reason": "it is in no known image format"},
            {"file": "a/text.png", "reason": "it is in no known image format"},
            {"file": "b/cut.jpg", "reason": "Truncated File Read"},
        ],
    }
    assert (
        sum(len(read_image_set(tmp_path / "out" / split)) for split in ("train", "validation", "test")) == 10
    )


def test_the_hash_is_of_the_content_and_not_of_its_packing(tmp_path: Path) -> None:
    files = folders({"a": 5, "b": 5})
    other = dict(reversed(files.items()))
    changed = files | {"a/0.png": picture("blue")}
    hashes = []

    for number, content in enumerate((files, other, changed)):
        main(["--input", str(zip_of(tmp_path / f"{number}.zip", content)), "--output", str(tmp_path / "out")])
        hashes.append(json.loads((tmp_path / "out/manifest/manifest.json").read_text())["sha256"])

    assert hashes[0] == hashes[1] != hashes[2]


def test_images_of_every_mode_and_size_become_rgb_squares(tmp_path: Path) -> None:
    files = folders({"other": 5})
    modes = ("RGB", "L", "1", "P", "RGBA", "LA", "I;16")
    files |= {f"red/{mode.replace(';', '')}.png": picture(mode=mode, size=(8, 30)) for mode in modes}
    files |= {"red/CMYK.jpg": picture(image_format="JPEG", mode="CMYK", size=(90, 40))}
    source = zip_of(tmp_path / "x.zip", files)

    main(["--input", str(source), "--output", str(tmp_path / "out"), "--image-size", "16"])

    assert json.loads((tmp_path / "out/manifest/manifest.json").read_text())["broken"]["count"] == 0
    sets = [read_image_set(tmp_path / "out" / split) for split in ("train", "validation", "test")]
    pixels = {Path(of.files[i]).stem: of.images[i, 8, 8] for of in sets for i in range(len(of))}
    assert [tuple(map(int, pixels[mode])) for mode in ("RGB", "P", "RGBA")] == [(255, 0, 0)] * 3
    assert np.abs(pixels["CMYK"].astype(int) - [255, 0, 0]).max() < 8
    assert tuple(map(int, pixels["L"])) == (76, 76, 76)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "The archive has no images in class folders"),
        (folders({"a": 5}), "The archive has one class only, 'a'; a classifier needs two or more"),
        (folders({"a": 5, "b": 5}) | {"c/": b""}, "The class 'c' is empty: there is no image in 'c'"),
        (folders({"a": 5, "b": 5}) | {"c/note.txt": b""}, "The class 'c' is empty: there is no image in 'c'"),
        (
            folders({"a": 5, "b": 5}) | {"c/1.png": b"broken"},
            "The class 'c' is empty in the train set: of its 1 images 0 could be read",
        ),
        (
            folders({"a": 5, "b": 5}, "seg_train/") | folders({"a": 2}, "seg_test/"),
            "The class 'b' is empty: it has no image in the test set",
        ),
        (folders({"a": 5, "../b": 5}), "The archive has a path that escapes its folder: '../b/0.png'"),
        (folders({"a": 5, "/b": 5}), "The archive has a path that escapes its folder: '/b/0.png'"),
        (folders({"a": 5, "..\\b": 5}), "The archive has a path that escapes its folder: '..\\\\b/0.png'"),
        (folders({"a": 5, "C:\\b": 5}), "The archive has a path that escapes its folder: 'C:\\\\b/0.png'"),
    ],
)
def test_bad_data_is_refused_and_nothing_is_left(
    tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    source = zip_of(tmp_path / "x.zip", files)

    assert failure_of(source, tmp_path / "out") == f"Preprocessing failed: {message}"


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    source = zip_of(tmp_path / "x.zip", folders({"a": 5, "b": 5}))
    with zipfile.ZipFile(source, "a") as target:
        link = zipfile.ZipInfo("a/link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        target.writestr(link, "/etc/passwd")

    assert (
        failure_of(source, tmp_path / "out")
        == "Preprocessing failed: The archive has a symbolic link: 'a/link.png'"
    )


def test_a_zip_bomb_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_FILE", 2_000_000)
    source = tmp_path / "x.zip"
    with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as target:
        for name in ("a/1.png", "b/1.png"):
            target.writestr(name, bytes(1_900_000))

    assert "looks like a zip bomb" in failure_of(source, tmp_path / "out")


def test_what_is_no_zip_is_said_to_be_none(tmp_path: Path) -> None:
    source = tmp_path / "x.zip"
    source.write_bytes(b"PK no zip")

    assert (
        failure_of(source, tmp_path / "out")
        == "Preprocessing failed: x.zip is not a zip archive: File is not a zip file"
    )
