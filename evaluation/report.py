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

from evaluation.metrics import interval
from training.dataset import ImageSet

MISTAKES = 24  # shown in the report
CONFUSIONS = 8
SMALL = 400  # images of a class; with more its recall is sure to within 3 points
NUMBERED = 20  # classes, up to which a cell has room for its number

Probabilities = NDArray[np.float64]


def draw_confusion_matrix(counts: NDArray[np.int64], classes: Sequence[str], path: Path) -> None:
    """A picture of the confusion matrix: shares of each true class as colours, counts as numbers."""
    import matplotlib as mpl  # here: it takes a second to import

    mpl.use("Agg")
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 2.4 + min(0.72 * len(classes), 14.4)
    figure = Figure(figsize=(size, size), dpi=144, layout="constrained")
    axes = figure.add_subplot()
    colours = LinearSegmentedColormap.from_list("matrix", ["#f6f8fb", "#9cc3ef", "#1f5fbf", "#0b2f6b"])
    axes.imshow(shares, cmap=colours, vmin=0, vmax=1)
    for (i, j), count in np.ndenumerate(counts) if len(classes) <= NUMBERED else ():
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


def write_report(path: Path, result: dict[str, Any], data: ImageSet, probabilities: Probabilities) -> None:
    """report.html, which needs no other file."""
    metrics = result["multiclass_classification_metrics"]
    counts = np.array([list(row.values()) for row in metrics["confusion_matrix"].values()])
    sections = (
        _header(result),
        _card("", _figures(result)),
        f'<div class="pair">{_card("Confusion matrix", _matrix(counts, data.classes))}'
        f"{_card('Most frequent confusions', _confusions(counts, data.classes))}</div>",
        _card("Classes", _per_class(result["per_class"], counts, data.classes)),
        _card("The worst mistakes", _mistakes(data, probabilities)),
        f'<div class="pair">{_card("Data", _facts(_data_facts(result)))}'
        f"{_card('Model', _facts(_model_facts(result)))}</div>",
    )
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    path.write_text(
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Evaluation: {metrics['accuracy']['value']:.1%} accuracy</title>\n"
        f"<style>\n{style}</style>\n<main>\n" + "\n".join(sections) + "\n</main>\n</html>\n",
        encoding="utf-8",
    )


def data_uri(image: NDArray[np.uint8]) -> str:
    """A picture inside the page."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(buffer, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def worst_mistakes(labels: NDArray[np.int64], probabilities: Probabilities) -> list[int]:
    """The images that were taken for something else, those first where the model was surest."""
    rows = np.arange(len(labels))
    predicted = probabilities.argmax(axis=1)
    sureness = probabilities[rows, predicted] - probabilities[rows, labels]
    return [int(row) for row in np.argsort(-sureness, kind="stable") if predicted[row] != labels[row]]


def _header(result: dict[str, Any]) -> str:
    dataset = result["dataset"]
    when = str(dataset["evaluation_time"]).replace("T", " ").replace("Z", " UTC")
    name = html.escape(f"{result['model'].get('arch', 'model')} on {dataset.get('source', 'the test set')}")
    return f'<header><h1>{name}</h1><p class="quiet">evaluated {html.escape(when)}</p></header>'


def _figures(result: dict[str, Any]) -> str:
    metrics, per_class = result["multiclass_classification_metrics"], result["per_class"]
    accuracy, f1 = metrics["accuracy"], metrics["weighted_f1"]
    counts = np.array([list(row.values()) for row in metrics["confusion_matrix"].values()])
    low, high = interval(int(np.trace(counts)), int(counts.sum()))
    constant = metrics["accuracy_best_constant_classifier"]["value"]
    weakest = min(per_class, key=lambda name: per_class[name]["f1"])
    figures = (
        ("Accuracy", f"{accuracy['value']:.1%}", f"95% interval: {low:.1%} to {high:.1%}", ""),
        ("F1, weighted", f"{f1['value']:.3f}", f"± {f1['standard_deviation']:.3f} standard deviation", ""),
        (
            "Test images",
            f"{result['dataset']['item_count']:,}",
            f"{constant:.1%} with one answer for all",
            "",
        ),
        ("Weakest class", weakest, f"F1 {per_class[weakest]['f1']:.3f}", "word"),
    )
    rows = (
        f'<div><dt>{name}</dt><dd class="{kind}">{html.escape(value)}'
        f"<small>{html.escape(note)}</small></dd></div>"
        for name, value, note, kind in figures
    )
    return f'<dl class="figures" style="margin:0">{"".join(rows)}</dl>'


def _matrix(counts: NDArray[np.int64], classes: Sequence[str]) -> str:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    head = "".join(
        f'<th scope="col" title="{html.escape(name)}">{html.escape(name)}</th>' for name in classes
    )
    body = []
    for i, true in enumerate(classes):
        cells = []
        for j, predicted in enumerate(classes):
            colour = "var(--on-heat)" if shares[i, j] > 0.55 else "inherit"
            heat = _percent(0.06 + 0.94 * shares[i, j])  # a single mistake is seen too
            style = f"background:color-mix(in srgb, var(--heat) {heat}, var(--page));color:{colour}"
            title = html.escape(f"{true} taken for {predicted}: {counts[i, j]} ({shares[i, j]:.1%})")
            kind = "" if counts[i, j] else ' class="none"'
            style = style if counts[i, j] else "background:var(--page)"
            cells.append(f'<td{kind} style="{style}" title="{title}">{counts[i, j]}</td>')
        body.append(f'<tr><th scope="row">{html.escape(true)}</th>{"".join(cells)}</tr>')
    return (
        '<div class="scroll"><table class="matrix"><caption>A row is a true class, a column what it was '
        "taken for; the colour is the share of the row.</caption>"
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _confusions(counts: NDArray[np.int64], classes: Sequence[str]) -> str:
    wrong = counts * (1 - np.eye(len(classes), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]
    pairs = [(int(cell) // len(classes), int(cell) % len(classes)) for cell in order]
    items = [
        f"<li><span>{html.escape(classes[i])}<span class='arrow'>→</span>"
        f"<span class='wrong'>{html.escape(classes[j])}</span></span>"
        f"<span class='quiet'>{wrong[i, j]} of {counts[i].sum()}</span></li>"
        for i, j in pairs
        if wrong[i, j]
    ]
    return f'<ul class="confusions">{"".join(items)}</ul>' if items else '<p class="quiet">None.</p>'


def _per_class(
    per_class: dict[str, dict[str, float]], counts: NDArray[np.int64], classes: Sequence[str]
) -> str:
    def measure(value: float) -> str:
        return f'<td>{value:.3f}<span class="bar"><i style="width:{_percent(value)}"></i></span></td>'

    def certainty(name: str) -> str:
        place = classes.index(name)
        right, total = int(counts[place, place]), int(counts[place].sum())
        if not 0 < total < SMALL:
            return "<td></td>"
        low, high = interval(right, total)
        return f'<td class="quiet">{low:.3f} to {high:.3f}</td>'

    rows = (
        f"<tr><td>{html.escape(name)}</td>{measure(of['precision'])}{measure(of['recall'])}{certainty(name)}"
        f"{measure(of['f1'])}<td>{of['support']:,}</td></tr>"
        for name, of in per_class.items()
    )
    columns = ("Class", "Precision", "Recall", "95% interval", "F1", "Images")
    head = "".join(f'<th scope="col">{name}</th>' for name in columns)
    table = f'<table class="list"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return f'<div class="scroll">{table}</div>'


def _mistakes(data: ImageSet, probabilities: Probabilities) -> str:
    mistakes = worst_mistakes(data.labels, probabilities)
    predicted = probabilities.argmax(axis=1)
    figures = []
    for row in mistakes[:MISTAKES]:
        true, taken = data.classes[data.labels[row]], data.classes[predicted[row]]
        figures.append(
            f'<figure><img src="{data_uri(data.images[row])}" alt="{html.escape(true)}" '
            f'title="{html.escape(data.files[row])}" loading="lazy">'
            f'<figcaption>{html.escape(true)}<br><span class="arrow">→</span>'
            f'<span class="wrong">{html.escape(taken)}</span> '
            f'<span class="quiet">{probabilities[row, predicted[row]]:.0%}</span></figcaption></figure>'
        )
    if not figures:
        return '<p class="quiet">There are none.</p>'
    shown = f"{len(figures)} of {len(mistakes)}, the surest first: the true class, and what it was taken for."
    return f'<div class="pictures">{"".join(figures)}</div><p class="key">{shown}</p>'


def _data_facts(result: dict[str, Any]) -> dict[str, str]:
    dataset = result["dataset"]
    facts = {"Classes": ", ".join(result["classes"])}
    if "images" in dataset:
        facts |= {name.capitalize(): f"{sum(of.values()):,} images" for name, of in dataset["images"].items()}
        facts["Broken"] = f"{dataset['broken']['count']:,} images"
        facts |= {
            name.replace("_", " ").capitalize(): str(value) for name, value in dataset["settings"].items()
        }
        facts["SHA-256"] = dataset["sha256"]
    return facts


def _model_facts(result: dict[str, Any]) -> dict[str, str]:
    hidden = ("input", "output")
    return {
        name.replace("_", " ").capitalize(): str(value)
        for name, value in result["model"].items()
        if name not in hidden
    }


def _facts(facts: dict[str, str]) -> str:
    rows = (
        f"<dt>{html.escape(name)}</dt><dd>{'<code>' * (name == 'SHA-256')}{html.escape(value)}"
        f"{'</code>' * (name == 'SHA-256')}</dd>"
        for name, value in facts.items()
    )
    return f'<dl class="facts">{"".join(rows)}</dl>'


def _card(title: str, content: str) -> str:
    heading = f"<h2>{html.escape(title)}</h2>" if title else ""
    return f'<section class="card">{heading}{content}</section>'


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
