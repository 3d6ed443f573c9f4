"""How fast training gets its images: decoded and augmented one by one, as torchvision's ImageFolder does
in every epoch, and from our memory map in batches.

    python benchmarks/loading.py --images 600 --image-size 64
"""

import argparse
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torchvision import datasets, transforms

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from training.augment import Augmentation  # noqa: E402  (the pipeline is found from the project's root)
from training.dataset import read_image_set  # noqa: E402
from training.model import Normalize  # noqa: E402

BATCH = 32
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--image-size", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        prepare(work, images=options.images, image_size=options.image_size)
        one_by_one = image_folder(work / "files" / "seg_train" / "seg_train", options.image_size)
        mapped = memory_map(work / "prepared" / "train")
        pairs = [(rate(one_by_one), rate(mapped)) for _ in range(ROUNDS)]
    slow, fast = (sorted(rates)[ROUNDS // 2] for rates in zip(*pairs, strict=True))
    ratio = sorted(b / a for a, b in pairs)[ROUNDS // 2]
    print(
        f"one by one   {slow:8.0f} images/s   decode, resize, flip, colour, normalise: each image, each epoch"
    )
    print(f"memory map   {fast:8.0f} images/s   shift, zoom, flip, colour, normalise: a batch at once")
    print(f"ratio        {ratio:8.1f}   median of {ROUNDS} pairs, {torch.get_num_threads()} threads")


def prepare(work: Path, *, images: int, image_size: int) -> None:
    scenes = work / "scenes.zip"
    run("training.sample_data", "--output", scenes, "--images-per-class", images // 6)
    run("training.preprocess", "--input", scenes, "--output", work / "prepared", "--image-size", image_size)
    with zipfile.ZipFile(scenes) as archive:
        archive.extractall(work / "files")


def run(module: str, *arguments: object) -> None:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def image_folder(folder: Path, image_size: int) -> Callable[[], int]:
    """An epoch as torchvision's tutorials write it."""
    transform = transforms.Compose(
        [
            transforms.Resize((image_size, image_size)),
            transforms.RandomHorizontalFlip(),
            transforms.ColorJitter(0.2, 0.2, 0.2),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    loader = torch.utils.data.DataLoader(
        datasets.ImageFolder(folder, transform), batch_size=BATCH, shuffle=True
    )
    return lambda: sum(len(images) for images, _ in loader)


def memory_map(folder: Path) -> Callable[[], int]:
    """An epoch as training/train.py does it."""
    data = read_image_set(folder)
    augment = Augmentation(flip=0.5, shift=0.08, zoom=0.12, light=0.2)
    normalize, generator = Normalize(), torch.Generator().manual_seed(0)

    def epoch() -> int:
        order = torch.randperm(len(data), generator=generator).numpy()
        for start in range(0, len(order), BATCH):
            normalize(augment(torch.from_numpy(data.images[order[start : start + BATCH]]), generator))
        return len(order)

    return epoch


def rate(epoch: Callable[[], int]) -> float:
    began = time.perf_counter()
    return epoch() / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
