"""The training job: read it from top to bottom.

    python -m training.train --train prepared/train --validation prepared/validation --model-dir model

On SageMaker the folders come from the container's SM_* variables and the flags from the hyperparameters.
Training goes on from its checkpoint folder, so it may be stopped at any moment, as spot instances are.
"""

import argparse
import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from training.augment import Augmentation
from training.dataset import ImageSet, read_image_set
from training.distributed import World, joined, launch_if_several
from training.export import write_model
from training.model import Normalize, build_network

STOPPED = 128 + signal.SIGTERM  # the exit code of a training that was asked to stop, and can go on later
PROGRESS = 2  # seconds between two lines of progress within an epoch


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train an image classifier.", allow_abbrev=False)
    add = parser.add_argument
    environment = os.environ.get
    # What to train
    add("--arch", default="resnet18", help="any of torchvision's classifiers (resnet18)")
    add("--epochs", type=int, default=10, help="passes over the training images (10)")
    add("--batch-size", type=int, default=32, help="images a step, over all processes (32)")
    add("--seed", type=int, default=0, help="decides weights, order and augmentation (0)")
    # How: AdamW with one cycle of the learning rate, which gets far in few epochs
    add("--learning-rate", type=float, default=2e-3, help="at its highest (0.002)")
    add("--warmup", type=float, default=0.25, help="part of the training until then (0.25)")
    add("--weight-decay", type=float, default=0.05, help="of matrices; biases and norms have none (0.05)")
    add("--label-smoothing", type=float, default=0.05, help="probability left to the other classes (0.05)")
    # Augmentation
    add("--flip", type=float, default=0.5, help="probability of a mirrored image; 0 for writing (0.5)")
    add("--shift", type=float, default=0.08, help="part of the image's width (0.08)")
    add("--zoom", type=float, default=0.12, help="part of the image's size (0.12)")
    add("--light", type=float, default=0.2, help="range of brightness, contrast and saturation (0.2)")
    # Where
    add("--train", type=Path, default=environment("SM_CHANNEL_TRAIN"), help="image set")
    add("--validation", type=Path, default=environment("SM_CHANNEL_VALIDATION"), help="image set")
    add("--model-dir", type=Path, default=environment("SM_MODEL_DIR"), help="for the result")
    add("--checkpoint-dir", type=Path, default=default_checkpoint_dir(), help="/opt/ml/checkpoints if there")
    add("--checkpoint-minutes", type=float, default=5, help="between two checkpoints of a long epoch (5)")
    options = parser.parse_args(arguments)
    for name in ("train", "validation", "model_dir"):
        if getattr(options, name) is None:
            parser.error(f"--{name.replace('_', '-')} is needed outside SageMaker")
    for name in ("epochs", "batch_size", "learning_rate"):
        if getattr(options, name) <= 0:
            parser.error(f"--{name.replace('_', '-')} {getattr(options, name)}: more than 0")
    return options


def default_checkpoint_dir() -> Path | None:
    folder = Path("/opt/ml/checkpoints")
    return folder if folder.is_dir() else None


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    launch_if_several(__file__, sys.argv[1:] if arguments is None else arguments)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    with StopRequest() as stop, joined() as world:
        try:
            finished = train(options, world, stop)
        except (ValueError, FileNotFoundError) as error:
            sys.exit(f"Training failed: {error}")
    if not finished:
        sys.exit(STOPPED)


def train(options: argparse.Namespace, world: World, stop: "StopRequest") -> bool:
    """Train, and write the model. False when it was asked to stop before, and has left a checkpoint."""
    # Data: memory maps on disk, read batch by batch
    training, validation = read_image_set(options.train), read_image_set(options.validation)
    if training.classes != validation.classes or training.image_size != validation.image_size:
        raise ValueError("The training and the validation set differ in their classes or image size")
    batch_size = min(options.batch_size, len(training))
    if batch_size < 2 * world.size:
        raise ValueError(f"{world.size} processes need a batch of {2 * world.size} images, not {batch_size}")
    steps = len(training) // batch_size  # an epoch; images that are left over come in another epoch

    # Model
    torch.manual_seed(options.seed)
    network = build_network(options.arch, classes=len(training.classes), image_size=training.image_size)
    network = network.to(world.device, memory_format=torch.channels_last)
    normalize = Normalize().to(world.device)
    optimizer = torch.optim.AdamW(parameter_groups(network, options.weight_decay), fused=True)
    augment = Augmentation(flip=options.flip, shift=options.shift, zoom=options.zoom, light=options.light)
    learner = accelerated(network, world)
    if world.leads:
        print(
            f"{options.arch}: {sum(p.numel() for p in network.parameters()) / 1e6:.1f} million parameters, "
            f"{len(training)} training and {len(validation)} validation images of {training.image_size} px, "
            f"{len(training.classes)} classes, {world.size} process(es)",
            flush=True,
        )

    # Where it was interrupted
    identity = checkpoint_identity(options, training, batch_size)
    checkpoint = options.checkpoint_dir / "checkpoint.pt" if options.checkpoint_dir else None
    step, totals = 0, torch.zeros(3, device=world.device)  # loss, right answers, images: of this epoch
    if checkpoint and checkpoint.is_file():
        step, saved = load_checkpoint(checkpoint, identity, network, optimizer)
        totals = saved.to(world.device) if world.leads else totals
        if world.leads:
            print(f"resumed at epoch={step // steps + 1} batch={step % steps}", flush=True)

    began = printed = saved_at = time.monotonic()
    while step < options.epochs * steps:
        # A step depends on its number alone, so a training that was interrupted does what it would have done
        epoch, batch = divmod(step, steps)
        order = np.random.default_rng([options.seed, epoch]).permutation(len(training))
        rows = order[batch * batch_size : (batch + 1) * batch_size][world.rank :: world.size]
        torch.manual_seed(options.seed * 1_000_003 + step * world.size + world.rank)
        generator = torch.Generator(world.device).manual_seed(torch.initial_seed())
        for group in optimizer.param_groups:
            group["lr"] = one_cycle(step / (options.epochs * steps), options.learning_rate, options.warmup)

        images, labels = load_batch(training, rows, world.device)
        learner.train()
        with autocast(world.device):
            logits = learner(normalize(augment(images, generator)))
            loss = functional.cross_entropy(logits, labels, label_smoothing=options.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
        with torch.no_grad():
            right = (logits.argmax(1) == labels).sum()
            totals += torch.stack((loss * len(rows), right, torch.tensor(len(rows), device=world.device)))

        now = time.monotonic()
        if world.leads and now - printed >= PROGRESS and step % steps:
            print(
                f"epoch={epoch + 1}/{options.epochs} batch={batch + 1}/{steps} batch:loss={loss:.4f}",
                flush=True,
            )
            printed = now
        ends = step % steps == 0
        if ends:
            results = world.total(totals), evaluate(network, validation, world)
            totals = torch.zeros_like(totals)
            if not results[0].isfinite().all():
                raise ValueError("The loss is no number any more: lower --learning-rate")

        # A checkpoint comes before what is printed of it: an epoch that was reported is not trained again
        stopping = world.any(stop.requested)
        due = world.any(now - saved_at > 60 * options.checkpoint_minutes)
        if checkpoint and (stopping or due or ends):
            sums = world.total(totals)
            if world.leads:
                save_checkpoint(checkpoint, identity, network, optimizer, step, sums)
            saved_at = now
        if ends:
            if world.leads:
                report_epoch(epoch + 1, options.epochs, *results, time.monotonic() - began)
            began = printed = time.monotonic()
        if stopping and step < options.epochs * steps:
            if world.leads:
                print(f"stopped at epoch={step // steps + 1} batch={step % steps}", flush=True)
            return False

    if world.leads:
        write_model(
            options.model_dir,
            network,
            classes=training.classes,
            image_size=training.image_size,
            details={"arch": options.arch, "epochs": options.epochs, "seed": options.seed},
        )
        print(f"wrote the model to {options.model_dir}", flush=True)
    return True


class StopRequest:
    """Whether SIGTERM has come: a spot interruption, or StopTrainingJob."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGTERM, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def _request(self, *_: object) -> None:
        self.requested = True


def accelerated(network: nn.Module, world: World) -> nn.Module:
    """The network as training calls it: compiled on a GPU, and kept the same in all processes."""
    if world.size > 1 and world.device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    if world.size > 1:
        network = DistributedDataParallel(network)
    return torch.compile(network) if world.device.type == "cuda" else network  # type: ignore[return-value]


def autocast(device: torch.device) -> Any:
    """bfloat16 on a GPU, where it is twice as fast and needs no scaling of the loss."""
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay is for matrices and kernels: norms and biases do their work at any size."""
    parameters = list(network.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def one_cycle(progress: float, highest: float, warmup: float) -> float:
    """The learning rate: up in a line, down in a cosine, to nothing."""
    if progress < warmup:
        return highest * (0.04 + 0.96 * progress / warmup)
    return highest * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def load_batch(data: ImageSet, rows: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    images, labels = torch.from_numpy(data.images[rows]), torch.from_numpy(data.labels[rows])
    if device.type == "cuda":
        images, labels = images.pin_memory(), labels.pin_memory()
    return images.to(device, non_blocking=True), labels.to(device, non_blocking=True)


@torch.inference_mode()
def evaluate(network: nn.Module, data: ImageSet, world: World) -> Tensor:
    """The sums of loss, right answers and images over a set, which the processes share out."""
    network.eval()
    normalize = Normalize().to(world.device)
    totals = torch.zeros(3, device=world.device)
    rows = np.arange(len(data))[world.rank :: world.size]
    for start in range(0, len(rows), 128):
        images, labels = load_batch(data, rows[start : start + 128], world.device)
        with autocast(world.device):
            logits = network(normalize(images))
        loss = functional.cross_entropy(logits.float(), labels, reduction="sum")
        totals += torch.stack(
            (loss, (logits.argmax(1) == labels).sum(), torch.tensor(len(labels), device=world.device))
        )
    return world.total(totals)


def report_epoch(epoch: int, epochs: int, training: Tensor, validation: Tensor, seconds: float) -> None:
    """The line that the job's MetricDefinitions read."""
    print(
        f"epoch={epoch}/{epochs} "
        f"train:loss={training[0] / training[2]:.4f} train:accuracy={training[1] / training[2]:.4f} "
        f"validation:loss={validation[0] / validation[2]:.4f} "
        f"validation:accuracy={validation[1] / validation[2]:.4f} seconds={seconds:.1f}",
        flush=True,
    )


def checkpoint_identity(options: argparse.Namespace, data: ImageSet, batch_size: int) -> dict[str, Any]:
    """What must be the same for a training to go on from a checkpoint."""
    names = ("arch", "epochs", "seed", "learning_rate", "warmup", "weight_decay", "label_smoothing")
    return {name: getattr(options, name) for name in (*names, "flip", "shift", "zoom", "light")} | {
        "batch_size": batch_size,
        "classes": list(data.classes),
        "images": len(data),
        "image_size": data.image_size,
    }


def save_checkpoint(
    path: Path,
    identity: dict[str, Any],
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: int,
    totals: Tensor,
) -> None:
    """Beside its place first: a checkpoint that is there is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(
            {
                "identity": identity,
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step,
                "totals": totals.cpu(),
            },
            file,
        )
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load_checkpoint(
    path: Path, identity: dict[str, Any], network: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, Tensor]:
    """The step to go on with and the sums of its epoch so far. Raises ValueError for another training's."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    for name, value in identity.items():
        if checkpoint["identity"].get(name) != value:
            raise ValueError(
                f"The checkpoint {path} is of a training with {name} {checkpoint['identity'].get(name)!r}, "
                f"this one has {value!r}: use another --checkpoint-dir, or empty it"
            )
    network.load_state_dict(checkpoint["network"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    return checkpoint["step"], checkpoint["totals"]


if __name__ == "__main__":
    main()
