"""Every content type is answered, in the promised form, and as well as when the model was registered."""

import io
import math
import os
from typing import Any

import pytest
from endpoint import Endpoint, Sample, npy
from findings import Measured
from PIL import Image

TYPES = {"image/png": "PNG", "image/jpeg": "JPEG"}


def test_a_prediction_names_the_class_and_the_probability_of_each(endpoint: Endpoint, sample: Sample) -> None:
    (prediction,) = endpoint.invoke(npy(sample.images[0]), "application/x-npy")

    assert set(prediction) == {"class", "probability", "probabilities"}
    probabilities = prediction["probabilities"]
    assert set(probabilities) == set(sample.classes)
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-3)
    assert prediction["class"] == max(probabilities, key=probabilities.__getitem__)
    assert prediction["probability"] == probabilities[prediction["class"]]


def test_a_batch_is_answered_image_by_image(endpoint: Endpoint, sample: Sample) -> None:
    images = sample.images[:3]

    together = endpoint.invoke(npy(images), "application/x-npy")

    apart = [endpoint.invoke(npy(image), "application/x-npy")[0] for image in images]
    assert [answer["class"] for answer in together] == [answer["class"] for answer in apart]


@pytest.mark.parametrize("content_type", TYPES)
def test_an_image_file_is_classified_as_its_pixels_are(
    endpoint: Endpoint, sample: Sample, content_type: str
) -> None:
    image = sample.images[0]
    content = io.BytesIO()
    Image.fromarray(image).save(content, TYPES[content_type], quality=100, subsampling=0)

    (prediction,) = endpoint.invoke(content.getvalue(), content_type)

    (expected,) = endpoint.invoke(npy(image), "application/x-npy")
    # JPEG changes pixels a little, and with them the probabilities.
    tolerance = 1e-4 if content_type == "image/png" else 0.15
    assert prediction["probabilities"] == pytest.approx(expected["probabilities"], abs=tolerance)


def test_the_accuracy_is_what_was_registered(
    answers: list[dict[str, Any]], sample: Sample, measured: Measured
) -> None:
    right = sum(answer["class"] == label for answer, label in zip(answers, sample.labels, strict=True))
    accuracy, registered = right / len(sample.labels), float(os.environ["REGISTERED_ACCURACY"])

    # A sample of n images is off by chance, by no more than this in 999 of 1,000 cases.
    chance = 3.1 * math.sqrt(max(registered * (1 - registered), 0.01) / len(sample.labels))
    measured.at_least("accuracy", accuracy, max(0.0, registered - chance))
