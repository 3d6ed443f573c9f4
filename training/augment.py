"""Augmentation of a whole batch at once: flips, shifts, zooms and light, drawn anew for each image."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far images are changed: `shift` and `zoom` in parts of the image, `light` as a range of factors."""

    flip: float
    shift: float
    zoom: float
    light: float

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """N×H×W×3 of uint8 in, float of the same shape out, from 0 to 255."""
        channels_first = images.permute(0, 3, 1, 2).float()
        return self._lit(self._moved(channels_first, generator), generator).permute(0, 2, 3, 1)

    def _moved(self, images: Tensor, generator: torch.Generator) -> Tensor:
        count, device = len(images), images.device
        scale = 1 + self.zoom * _uniform(count, 1, generator, device)[:, 0]
        mirror = torch.where(torch.rand(count, generator=generator, device=device) < self.flip, -1.0, 1.0)
        # For each image, where in it each of its new pixels comes from; -1 to 1 is the image's width.
        matrices = torch.zeros(count, 2, 3, device=device)
        matrices[:, 0, 0] = scale * mirror
        matrices[:, 1, 1] = scale
        matrices[:, :, 2] = 2 * self.shift * _uniform(count, 2, generator, device)
        grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
        return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)

    def _lit(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Contrast around the image's mean, saturation around its grey, then brightness."""
        factors = 1 + self.light * _uniform(len(images), 3, generator, images.device)
        contrast, saturation, brightness = (factors[:, i].view(-1, 1, 1, 1) for i in range(3))
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        images = mean + contrast * (images - mean)
        grey = images.mean(dim=1, keepdim=True)
        images = grey + saturation * (images - grey)
        return (brightness * images).clamp_(0, 255)


def _uniform(count: int, values: int, generator: torch.Generator, device: torch.device) -> Tensor:
    return 2 * torch.rand(count, values, generator=generator, device=device) - 1
