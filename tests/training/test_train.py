"""Training: what it prints and writes, and that nothing is lost when it is interrupted."""

import json
import re
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.ports import free_port
from training import inference
from training.dataset import read_image_set
from training.train import main, one_cycle

EPOCH = re.compile(
    r"epoch=(\d+)/(\d+) train:loss=([0-9.]+) train:accuracy=([0-9.]+) "
    r"validation:loss=([0-9.]+) validation:accuracy=([0-9.]+) seconds=([0-9.]+)"
)
CLASSES = ("blue", "green", "red")
StartTraining = Callable[..., AbstractContextManager[Any]]


def test_training_prints_its_metrics_and_writes_a_model_that_serves(
    colours: Path, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*arguments, "--model-dir", str(tmp_path)])

    lines = [line for line in capsys.readouterr().out.splitlines() if "train:loss" in line]
    assert [EPOCH.fullmatch(line).group(1, 2) for line in lines] == [("1", "3"), ("2", "3"), ("3", "3")]  # type: ignore[union-attr]
    assert sorted(
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()
    ) == [
        "classes.json",
        "code/inference.py",
        "code/requirements.txt",
        "model.json",
        "model.onnx",
        "weights.pt",
    ]
    assert json.loads((tmp_path / "classes.json").read_text()) == list(CLASSES)
    assert json.loads((tmp_path / "model.json").read_text()) == {
        "image_size": 32,
        "input": "images",
        "output": "probabilities",
        "arch": "resnet18",
        "epochs": 3,
        "seed": 0,
    }
    test = read_image_set(colours / "test")
    answers = inference.predict_fn(list(test.images), inference.model_fn(str(tmp_path)))
    right = [
        max(answer, key=answer.__getitem__) == CLASSES[test.labels[i]] for i, answer in enumerate(answers)
    ]
    assert sum(right) >= 11


@pytest.mark.slow
def test_an_interrupted_training_ends_as_an_undisturbed_one(
    arguments: list[str], tmp_path: Path, training_job: StartTraining
) -> None:
    undisturbed, interrupted = (
        [*arguments, "--model-dir", str(tmp_path / "model"), "--checkpoint-dir", str(tmp_path / name)]
        for name in ("undisturbed", "interrupted")
    )

    with training_job(undisturbed) as job:
        expected = job.wait_for("epoch=3/3 train:loss")
    with training_job(interrupted) as job:
        job.wait_for("epoch=1/3 train:loss")
        job.process.kill()
    with training_job(interrupted) as job:
        assert job.wait_for("resumed").startswith("resumed at epoch=2 batch=")
        job.process.terminate()
        assert job.exit_code() == 128 + signal.SIGTERM
    with training_job(interrupted) as job:
        job.wait_for("resumed")
        result = job.wait_for("epoch=3/3 train:loss")

    assert EPOCH.match(result).groups()[:6] == EPOCH.match(expected).groups()[:6]  # type: ignore[union-attr]
    one, other = (
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["network"]
        for name in ("undisturbed", "interrupted")
    )
    assert all(torch.allclose(one[name], other[name], rtol=1e-3, atol=1e-4) for name in one)


def test_a_checkpoint_of_another_training_is_refused(arguments: list[str], tmp_path: Path) -> None:
    checkpoints = ["--checkpoint-dir", str(tmp_path), "--model-dir", str(tmp_path / "model")]
    main([*arguments, *checkpoints, "--epochs", "1", "--arch", "squeezenet1_1"])

    with pytest.raises(SystemExit) as stopped:
        main([*arguments, *checkpoints, "--epochs", "2", "--arch", "squeezenet1_1"])

    assert stopped.value.code == (
        f"Training failed: The checkpoint {tmp_path}/checkpoint.pt is of a training with epochs 1, "
        "this one has 2: use another --checkpoint-dir, or empty it"
    )


@pytest.mark.slow
def test_two_processes_train_one_model(
    arguments: list[str], tmp_path: Path, training_job: StartTraining
) -> None:
    port = str(free_port())
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    two_epochs = [*arguments, "--epochs", "2", "--model-dir", str(tmp_path)]

    with (
        training_job(two_epochs, world | {"RANK": "0", "LOCAL_RANK": "0"}) as first,
        training_job(two_epochs, world | {"RANK": "1", "LOCAL_RANK": "1"}) as second,
    ):
        assert "2 process(es)" in first.wait_for("parameters")
        line = EPOCH.match(first.wait_for("epoch=2/2 train:loss"))
        assert second.output.read() == ""
        assert (first.exit_code(), second.exit_code()) == (0, 0)

    assert line is not None
    assert np.isfinite(float(line.group(3)))
    assert (tmp_path / "model.onnx").is_file()


@pytest.mark.slow
def test_hosts_of_a_sagemaker_job_find_each_other(
    arguments: list[str], tmp_path: Path, training_job: StartTraining
) -> None:
    port = str(free_port())
    hosts = ["127.0.0.1", "localhost"]
    environment = {"SM_HOSTS": json.dumps(hosts), "SM_NUM_GPUS": "0", "MASTER_PORT": port}
    one_epoch = [*arguments, "--epochs", "1", "--model-dir", str(tmp_path)]

    with (
        training_job(one_epoch, environment | {"SM_CURRENT_HOST": hosts[0]}) as first,
        training_job(one_epoch, environment | {"SM_CURRENT_HOST": hosts[1]}) as second,
    ):
        assert "2 process(es)" in first.wait_for("parameters")
        first.wait_for("wrote the model")
        assert (first.exit_code(), second.exit_code()) == (0, 0)


def test_an_unknown_architecture_is_named_with_those_that_there_are(
    arguments: list[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--model-dir", str(tmp_path), "--arch", "resnet19"])

    assert str(stopped.value.code).startswith(
        "Training failed: torchvision has no classifier 'resnet19'; it has alexnet, "
    )


def test_the_learning_rate_goes_up_and_comes_down_to_nothing() -> None:
    rates = [one_cycle(progress, 1.0, 0.25) for progress in (0, 0.125, 0.25, 0.625, 1)]

    assert rates == pytest.approx([0.04, 0.52, 1.0, 0.5, 0.0])
