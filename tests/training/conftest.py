"""Small data to train on, and training jobs as they run: processes that were forked after torch's import."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np
import pytest

from training.dataset import ImageSet

CLASSES = ("blue", "green", "red")
JOB = """
import os, sys
from training.train import main
os.environ.update(environment)
for stream in (sys.stdout, sys.stderr):
    os.dup2(writer.fileno(), stream.fileno())
writer.close()
main(arguments)
"""  # a text, since the forked process could not import a function from here


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process of tests has one: threads that wait for each other on cores that others use wait long."""
    monkeypatch.setattr("os.cpu_count", lambda: 1)


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes that differ in their colour: 60 images of 32×32 to train on, 15 to validate with."""
    folder = tmp_path_factory.mktemp("colours")
    for split, count, seed in (("train", 60, 1), ("validation", 15, 2), ("test", 12, 3)):
        random = np.random.default_rng(seed)
        labels = np.arange(count) % len(CLASSES)
        images = random.integers(0, 150, (count, 32, 32, 3), dtype=np.uint8)
        images[np.arange(count), :, :, 2 - labels] += 70
        files = tuple(f"{CLASSES[label]}/{number}.png" for number, label in enumerate(labels))
        ImageSet(images=images, labels=labels, classes=CLASSES, files=files).select(
            range(count), folder / split
        )
    return folder


@pytest.fixture(scope="session")
def arguments(colours: Path) -> list[str]:
    """A training that takes a second or two."""
    return [
        *("--train", str(colours / "train"), "--validation", str(colours / "validation")),
        *("--arch", "resnet18", "--epochs", "3", "--batch-size", "12"),
    ]


class TrainingJob:
    """A training that runs in a process of its own."""

    def __init__(self, process: multiprocessing.process.BaseProcess, output: TextIO) -> None:
        self.process = process
        self.output = output

    def wait_for(self, text: str) -> str:
        """The next line with this text, as soon as it is printed."""
        seen = []
        for line in self.output:
            seen.append(line)
            if text in line:
                return line
        raise AssertionError(f"{text!r} was not printed, but:\n{''.join(seen)}")

    def exit_code(self) -> int | None:
        self.output.read()
        self.process.join()
        return self.process.exitcode


StartTraining = Callable[..., AbstractContextManager[TrainingJob]]


@pytest.fixture
def training_job() -> StartTraining:
    return start_training


@contextmanager
def start_training(
    arguments: Sequence[str], environment: dict[str, str] | None = None
) -> Iterator[TrainingJob]:
    """Starts in an instant: the process is forked from one that has imported torch, as jobs are."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torchvision", "training.train"])
    reader, writer = context.Pipe(duplex=False)
    given = {"arguments": list(arguments), "environment": environment or {}, "writer": writer}
    process = context.Process(target=exec, args=(JOB, given))
    process.start()
    writer.close()
    try:
        with os.fdopen(os.dup(reader.fileno()), encoding="utf-8") as output:
            yield TrainingJob(process, output)
    finally:
        reader.close()
        process.kill()
        process.join()
        process.close()
