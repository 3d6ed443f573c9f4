"""What an evaluation left in S3: its numbers, how sure the model was, and the pictures of its worst mistakes.

evaluation/evaluate.py writes it. A team's own evaluation may leave less, and nothing of it is trusted: it is
read into what is shown here, or said to be unreadable.
"""

import json
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

from botocore.exceptions import ClientError

from stagegate.arrays import Table, read_archive
from stagegate.aws import Services, error_code
from stagegate.errors import NotFound

LARGEST = 64 * 1024 * 1024
BINS = 10
MISTAKES = 48
_PICTURE = re.compile(r"data:image/(?:jpeg|png);base64,[A-Za-z0-9+/=]+")


@dataclass(frozen=True, kw_only=True)
class ClassMetrics:
    """None for what the evaluation does not say."""

    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The content of an evaluation.json."""

    folder: str
    """s3://bucket/prefix, in which its neighbours are."""
    matrix: dict[str, dict[str, int]]
    """By what the image shows, then by what the model said."""
    metrics: dict[str, tuple[float, float]]
    """Each metric's value and standard deviation, by SageMaker's name for it."""
    per_class: dict[str, ClassMetrics]
    dataset: dict[str, str]
    model: dict[str, str]

    @property
    def right(self) -> int:
        return sum(row.get(name, 0) for name, row in self.matrix.items())

    @property
    def images(self) -> int:
        return sum(sum(row.values()) for row in self.matrix.values())

    @property
    def accuracy(self) -> float:
        return self.right / self.images if self.images else 0.0

    def right_of(self, name: str) -> tuple[int, int]:
        """How many images of a class were told right, and how many there are."""
        row = self.matrix.get(name, {})
        return row.get(name, 0), sum(row.values())

    def confusions(self, limit: int = 10) -> list[tuple[str, str, int, int]]:
        """What it showed, what the model said, how often, of how many: the most frequent first."""
        wrong = [
            (actual, predicted, count, sum(row.values()))
            for actual, row in self.matrix.items()
            for predicted, count in row.items()
            if actual != predicted and count
        ]
        return sorted(wrong, key=lambda confusion: -confusion[2])[:limit]


@dataclass(frozen=True, kw_only=True)
class Bin:
    """The images of which the model was about so sure, and how many of them it told right."""

    confidence: float
    right: int
    images: int

    @property
    def accuracy(self) -> float:
        return self.right / self.images


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A picture (as a data: URI) that was taken for something else."""

    picture: str
    actual: str
    file: str
    said: str


def read_evaluation(services: Services, folder: str) -> Evaluation:
    """Of the folder s3://bucket/prefix. Raises NotFound where there is none that can be read."""
    uri = f"{folder}/evaluation.json"
    try:
        return _evaluation(folder, json.loads(read_object(services, uri)))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise NotFound(f"{uri} is no evaluation: {error!r}") from error


def read_calibration(services: Services, folder: str) -> list[Bin]:
    """By how sure the model was, in tenths, those that have images. Raises NotFound."""
    uri = f"{folder}/predictions.npz"
    try:
        tables = read_archive(read_object(services, uri), "probabilities", "labels")
        return calibration(tables["probabilities"], tables["labels"])
    except (ValueError, IndexError) as error:
        raise NotFound(f"{uri} cannot be read: {error}") from error


def calibration(probabilities: Table, labels: Table) -> list[Bin]:
    if probabilities.rows != labels.rows:
        raise ValueError(f"{probabilities.rows} predictions for {labels.rows} labels")
    found: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for number in range(probabilities.rows):
        row = probabilities.row(number)
        confidence = max(row)
        if 0 <= confidence <= 1.001:
            is_right = row.index(confidence) == labels.values[number]
            found[min(int(confidence * BINS), BINS - 1)].append((confidence, is_right))
    return [
        Bin(
            confidence=sum(confidence for confidence, _ in images) / len(images),
            right=sum(is_right for _, is_right in images),
            images=len(images),
        )
        for images in found
        if images
    ]


def overconfidence(bins: list[Bin]) -> float:
    """By how much it is surer than it is right, on average; negative where it is less sure."""
    images = sum(it.images for it in bins)
    return sum(it.images * (it.confidence - it.accuracy) for it in bins) / images if images else 0.0


def calibration_error(bins: list[Bin]) -> float:
    """The mean distance of sureness and truth, by images (expected calibration error)."""
    images = sum(it.images for it in bins)
    return sum(it.images * abs(it.confidence - it.accuracy) for it in bins) / images if images else 0.0


def read_mistakes(services: Services, folder: str) -> list[Mistake]:
    """The pictures in evaluation's own report.html. Raises NotFound where there is no such file."""
    report = _Figures()
    report.feed(read_object(services, f"{folder}/report.html").decode(errors="replace"))
    return report.mistakes[:MISTAKES]


class _Figures(HTMLParser):
    """Finds figures with a picture that is inside the page; takes text and picture, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.mistakes: list[Mistake] = []
        self._image: dict[str, str | None] | None = None
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "figure":
            self._image, self._text = None, []
        elif tag == "img":
            self._image = dict(attrs)

    def handle_data(self, data: str) -> None:
        self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag != "figure" or self._image is None:
            return
        picture = self._image.get("src") or ""
        actual = self._image.get("alt") or ""
        said = " ".join("".join(self._text).split()).removeprefix(actual).strip(" →")
        if _PICTURE.fullmatch(picture):
            file = self._image.get("title") or ""
            self.mistakes.append(Mistake(picture=picture, actual=actual, file=file, said=said))


def read_object(services: Services, uri: str) -> bytes:
    """An object of S3. Raises NotFound where it is not there, not ours to read, or very large."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket or not key:
        raise NotFound(f"'{uri}' names no object of S3.")
    try:
        answer = services("s3").get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error_code(error) not in ("NoSuchKey", "NoSuchBucket", "AccessDenied"):
            raise
        raise NotFound(f"{uri} cannot be read: {error_code(error)}.") from error
    if answer["ContentLength"] > LARGEST:
        raise NotFound(f"{uri} has {answer['ContentLength']:,} bytes: too many to show.")
    content: bytes = answer["Body"].read()
    return content


def _evaluation(folder: str, content: dict[str, Any]) -> Evaluation:
    metrics = content["multiclass_classification_metrics"]
    return Evaluation(
        folder=folder,
        matrix={
            str(actual): {str(predicted): _count(count) for predicted, count in row.items()}
            for actual, row in metrics["confusion_matrix"].items()
        },
        metrics={
            name: (float(of["value"]), float(of.get("standard_deviation", 0)))
            for name, of in metrics.items()
            if name != "confusion_matrix"
        },
        per_class={
            str(name): ClassMetrics(
                precision=_number(of.get("precision")),
                recall=_number(of.get("recall")),
                f1=_number(of.get("f1")),
                support=int(of.get("support", 0)),
            )
            for name, of in content.get("per_class", {}).items()
        },
        dataset=_facts(content.get("dataset", {})),
        model=_facts(content.get("model", {})),
    )


def _count(value: Any) -> int:
    count = int(value)
    if not 0 <= count < 2**53:
        raise ValueError(f"{count} is no number of images")
    return count


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _facts(values: dict[str, Any]) -> dict[str, str]:
    return {
        str(name): value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in values.items()
    }
