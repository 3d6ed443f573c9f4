"""The networks and the augmentation that they are trained with."""

import pytest
import torch

from training.augment import Augmentation
from training.model import Normalize, build_network

STILL = Augmentation(flip=0, shift=0, zoom=0, light=0)


@pytest.mark.parametrize(
    "arch", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "vit_b_32", "efficientnet_b0"]
)
def test_a_network_has_an_output_for_each_class(arch: str) -> None:
    network = build_network(arch, classes=7, image_size=64).eval()

    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 7)


def test_pixels_are_normalised_without_a_copy() -> None:
    normalised = Normalize()(torch.full((2, 4, 4, 3), 255, dtype=torch.uint8))

    assert normalised.is_contiguous(memory_format=torch.channels_last)
    assert normalised[0, :, 0, 0].tolist() == pytest.approx([2.2489, 2.4286, 2.6400], abs=1e-3)


def test_no_augmentation_leaves_images_as_they_are() -> None:
    images = torch.randint(0, 256, (4, 16, 16, 3), dtype=torch.uint8)

    assert torch.allclose(STILL(images, torch.Generator()), images.float(), atol=1e-3)


def test_a_flip_mirrors_left_and_right() -> None:
    images = torch.randint(0, 256, (4, 16, 16, 3), dtype=torch.uint8)
    mirror = Augmentation(flip=1, shift=0, zoom=0, light=0)

    assert torch.allclose(mirror(images, torch.Generator()), images.flip(2).float(), atol=1e-3)


def test_each_image_of_a_batch_is_changed_in_its_own_way_and_by_the_seed() -> None:
    images = torch.randint(0, 256, (1, 16, 16, 3), dtype=torch.uint8).expand(6, -1, -1, -1)
    augmentation = Augmentation(flip=0.5, shift=0.1, zoom=0.1, light=0.2)

    first, again = (augmentation(images, torch.Generator().manual_seed(5)) for _ in range(2))

    assert torch.equal(first, again)
    assert len({image.numpy().tobytes() for image in first}) == 6
    assert first.min() >= 0 and first.max() <= 255
