"""The model directory: what SageMaker packs as model.tar.gz, and what is registered, judged and deployed."""

import json
import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from training import inference
from training.model import Deployed

REQUIREMENTS = "numpy\nonnxruntime>=1.17\npillow\n"  # of inference.py, in SageMaker's inference container
TOLERANCE = 1e-3  # of a probability, between PyTorch and ONNX Runtime


def write_model(
    folder: Path, network: nn.Module, *, classes: tuple[str, ...], image_size: int, details: dict[str, Any]
) -> None:
    """Write the network with all that serving it needs, and check that it serves what was trained."""
    folder.mkdir(parents=True, exist_ok=True)
    network = network.cpu().eval()
    torch.save(network.state_dict(), folder / "weights.pt")
    write_json(folder / "classes.json", list(classes))
    write_json(
        folder / "model.json",
        {"image_size": image_size, "input": "images", "output": "probabilities"} | details,
    )
    code = folder / "code"
    code.mkdir(exist_ok=True)
    shutil.copyfile(inference.__file__, code / "inference.py")
    (code / "requirements.txt").write_text(REQUIREMENTS, encoding="utf-8")
    deployed = Deployed(network).eval()
    write_onnx(deployed, folder / "model.onnx", image_size=image_size)
    check_agreement(folder, deployed, image_size=image_size)


def write_onnx(deployed: Deployed, path: Path, *, image_size: int) -> None:
    """One file, for batches of any size."""
    example = torch.zeros(2, image_size, image_size, 3, dtype=torch.uint8)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # The exporter's own use of what Python or PyTorch is about to retire is not ours to change.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            deployed,
            (example,),
            path,
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def check_agreement(folder: Path, deployed: Deployed, *, image_size: int) -> None:
    """Raises RuntimeError unless the handlers answer what PyTorch computes, for one image and for several."""
    model = inference.model_fn(str(folder))
    noise = np.random.default_rng(0).integers(0, 256, (3, image_size, image_size, 3), dtype=np.uint8)
    for images in (noise[:1], noise):
        with torch.inference_mode():
            expected = deployed(torch.from_numpy(images)).numpy()
        served = np.array([list(answer.values()) for answer in inference.predict_fn(list(images), model)])
        difference = float(np.abs(expected - served).max())
        if not difference < TOLERANCE:
            raise RuntimeError(
                f"The ONNX model differs from the trained one by {difference:.2g} in a probability"
            )


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
