"""The drawn data set: laid out as the real one, and the same for the same seed."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.sample_data import main
from training.scenes import SCENES, draw_scene


def draw(path: Path, seed: int) -> bytes:
    main(["--output", str(path), "--seed", str(seed), "--images-per-class", "3", "--test-fraction", "0.3"])
    return path.read_bytes()


def test_the_same_seed_draws_the_same_bytes(tmp_path: Path) -> None:
    first, again, other = (
        draw(tmp_path / "a.zip", 3),
        draw(tmp_path / "b.zip", 3),
        draw(tmp_path / "c.zip", 4),
    )

    assert first == again != other
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert sorted(archive.namelist()) == sorted(
            f"{folder}/{folder}/{scene}/{number}.jpg"
            for folder, count in (("seg_train", 2), ("seg_test", 1))
            for scene in ("buildings", "forest", "glacier", "mountain", "sea", "street")
            for number in range(count)
        )
        images = [Image.open(io.BytesIO(archive.read(name))) for name in archive.namelist()]
    assert {(image.format, image.size, image.mode) for image in images} == {("JPEG", (150, 150), "RGB")}
    assert len({image.tobytes() for image in images}) == 18


@pytest.mark.parametrize("scene", SCENES)
def test_every_scene_can_be_drawn_in_every_mood(scene: str) -> None:
    images = [np.asarray(draw_scene(scene, np.random.default_rng(seed))) for seed in range(25)]

    assert all(image.std() > 4 for image in images)
    assert np.std([image.mean() for image in images]) > 10
