"""The network: any of torchvision's image classifiers, for any number of classes and size of image."""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

MEAN = (0.485, 0.456, 0.406)  # of ImageNet's channels: what torchvision's classifiers expect
DEVIATION = (0.229, 0.224, 0.225)
SMALL_IMAGE = 48  # pixels; below, a ResNet's first stage would see fewer than 12×12 places


def architectures() -> list[str]:
    """The names that `build_network` takes."""
    return models.list_models(module=models)


def build_network(arch: str, *, classes: int, image_size: int) -> nn.Module:
    """A new network with random weights. Raises ValueError for an architecture that torchvision lacks."""
    if arch not in architectures():
        raise ValueError(f"torchvision has no classifier {arch!r}; it has {', '.join(architectures())}")
    options: dict[str, Any] = {"num_classes": classes}
    if arch.startswith(("vit_", "maxvit_")):
        options["image_size" if arch.startswith("vit_") else "input_size"] = (
            image_size if arch.startswith("vit_") else (image_size, image_size)
        )
    if arch in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    network = models.get_model(arch, **options)
    if isinstance(network, models.ResNet):
        for module in network.modules():
            # Blocks that start as the identity learn faster: torchvision's zero_init_residual.
            if isinstance(module, models.resnet.BasicBlock):
                nn.init.zeros_(module.bn2.weight)
            elif isinstance(module, models.resnet.Bottleneck):
                nn.init.zeros_(module.bn3.weight)
        if image_size < SMALL_IMAGE:
            network.maxpool = nn.Identity()
    return network


class Normalize(nn.Module):
    """Pixels from 0 to 255, N×H×W×3 as an image file has them, to what the network takes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        # N×H×W×3 seen as N×3×H×W is PyTorch's channels-last format: nothing is copied.
        return (images.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.deviation


class Deployed(nn.Module):
    """What is exported: from uint8 images to probabilities, so that serving has nothing to get wrong."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.normalize = Normalize()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return torch.softmax(self.network(self.normalize(images)), dim=1)
