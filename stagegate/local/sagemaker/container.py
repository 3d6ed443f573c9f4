"""What a job's container would see: the files below /opt/ml, the variables, the command.

After the SageMaker Developer Guide, "How Amazon SageMaker AI Provides Training Information" and "How Amazon
SageMaker Processing Configures Your Processing Container", and the sagemaker-training toolkit's variables.
"""

import importlib.metadata
import json
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from stagegate.local.processes import MOUNT_AT, Program
from stagegate.local.sagemaker.hosts import Host
from stagegate.local.sagemaker.toolkit import (
    script_command,
    script_variables,
    value_of,
)

_ERROR_LINE = re.compile(r"([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning|Lost|Failed))(: .*)?")

_REQUESTED = (  # what of a training job stands in init-config.json
    *("TrainingJobName", "TrainingJobArn", "AlgorithmSpecification", "HyperParameters", "InputDataConfig"),
    *("OutputDataConfig", "ResourceConfig", "StoppingCondition", "CheckpointConfig", "Environment"),
)

Document = dict[str, Any]


class Folder:
    """A job's folder on disk, and the paths by which the job knows what is in it."""

    def __init__(self, path: Path, *, isolated: bool) -> None:
        self.path = path
        self.is_isolated = isolated
        self.root = str(MOUNT_AT) if isolated else str(path)

    def inside(self, relative: str) -> str:
        """`inside("model")` is /opt/ml/model to the job."""
        return f"{self.root}/{relative}"

    def outside(self, path: str) -> Path:
        """Where a path that the job was given (`/opt/ml/processing/output`) lies on disk."""
        return self.path / Path(path).relative_to(MOUNT_AT)

    def moved(self, text: str) -> str:
        """A text with the container's paths in it, as this job must see it."""
        return text.replace(str(MOUNT_AT), self.root)

    def write(self, relative: str, value: Any) -> None:
        path = self.path / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value, default=str))


def holds(path: str) -> bool:
    """Whether a local path that a request names lies where a job's folder is."""
    return Path(path).is_relative_to(MOUNT_AT) and ".." not in Path(path).parts


def training_program(folder: Folder, job: Document, environment: Mapping[str, str], host: Host) -> Program:
    """The files and variables of a training job's host, and its command; its channels and code are there
    already."""
    parameters: dict[str, str] = job.get("HyperParameters", {})
    algorithm = job["AlgorithmSpecification"]
    channels = {
        channel["ChannelName"]: _channel(channel, algorithm) for channel in job.get("InputDataConfig", [])
    }
    folder.write("input/config/hyperparameters.json", parameters)
    folder.write("input/config/inputdataconfig.json", channels)
    folder.write("input/config/resourceconfig.json", host.resource_config())
    folder.write("input/config/init-config.json", {name: job[name] for name in _REQUESTED if name in job})
    for relative in ("model", "output/data", "input/data", "code"):
        (folder.path / relative).mkdir(parents=True, exist_ok=True)

    program = script(parameters, algorithm)
    if program:
        command = script_command(program, parameters, host, leader=host.leader(folder.is_isolated))
    else:
        command = [*algorithm["ContainerEntrypoint"], *algorithm.get("ContainerArguments", [])]
    variables = {
        "TRAINING_JOB_NAME": job["TrainingJobName"],
        "TRAINING_JOB_ARN": job["TrainingJobArn"],
        **host.variables(names_resolve=folder.is_isolated),
        **script_variables(
            job,
            host,
            channels=channels,
            inside=folder.inside,
            program=program,
            region=environment["AWS_REGION"],
        ),
    }
    code = folder.inside("code")
    given = {name: folder.moved(value) for name, value in job.get("Environment", {}).items()}
    return Program(
        home=folder.path.parent,
        mount=folder.path,
        hosts=_names(folder, host),
        command=[folder.moved(part) for part in command],
        environment=_with_path(
            {**environment, **_common(folder, host), **variables, **given},
            code,
        ),
        directory=code,
    )


def processing_program(folder: Folder, job: Document, environment: Mapping[str, str], host: Host) -> Program:
    """The same of a processing job; its inputs are there already, and the folders of its outputs."""
    folder.write("config/processingjobconfig.json", {name: job[name] for name in job if name[0] != "_"})
    folder.write("config/resourceconfig.json", {"current_host": host.name, "hosts": host.hosts})
    (folder.path / "output").mkdir(exist_ok=True)
    application = job["AppSpecification"]
    command = [*application["ContainerEntrypoint"], *application.get("ContainerArguments", [])]
    given = {name: folder.moved(value) for name, value in job.get("Environment", {}).items()}
    return Program(
        home=folder.path.parent,
        mount=folder.path,
        hosts=_names(folder, host),
        command=[folder.moved(part) for part in command],
        environment={
            **environment,
            **_common(folder, host),
            "PROCESSING_JOB_NAME": job["ProcessingJobName"],
            "PROCESSING_JOB_ARN": job["ProcessingJobArn"],
            **given,
        },
        directory=folder.root,
    )


def input_mode(channel: Document, algorithm: Document) -> str:
    """How a channel comes: File, FastFile or Pipe."""
    return str(channel.get("InputMode") or algorithm.get("TrainingInputMode", "File"))


def script(parameters: Mapping[str, str], algorithm: Document) -> str | None:
    """The script of a job in script mode; a ContainerEntrypoint finds it by itself."""
    program = parameters.get("sagemaker_program")
    return None if program is None or "ContainerEntrypoint" in algorithm else str(value_of(program))


def submit_directory(parameters: Mapping[str, str]) -> str | None:
    """Where the source of a job in script mode lies."""
    source = parameters.get("sagemaker_submit_directory")
    return None if source is None else str(value_of(source))


def missing_requirements(file: Path) -> list[str]:
    """What a requirements.txt asks for that this environment does not have already."""
    missing: list[str] = []
    if not file.is_file():
        return missing
    for line in file.read_text().splitlines():
        text = line.split("#")[0].strip()
        if text and not _is_installed(text):
            missing.append(text)
    return missing


def beginning(file: Path, characters: int) -> str:
    """So much of a file that a job has written, whatever it is and however long."""
    with file.open(errors="replace") as text:
        return text.read(characters)


def error_message(lines: list[str]) -> str:
    """What a script said last: the error that ended it, or its last line."""
    for line in reversed(lines):
        if _ERROR_LINE.match(line.strip()):
            return line.strip()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def training_failure(command: list[str], code: int, lines: list[str]) -> str:
    """The failure reason of a script, as the toolkit and SageMaker word it; at most 1,024 characters."""
    return f"AlgorithmError: ExecuteUserScriptError:\n{job_failure(command, code, lines)}"[:1024]


def job_failure(command: list[str], code: int, lines: list[str]) -> str:
    """How a command failed, in the toolkit's form."""
    message = error_message(lines).replace('"', "'")
    text = f'ExitCode {code}\nErrorMessage "{message[:600]}"\nCommand "{shlex.join(command)[:200]}"'
    return f"{text}, exit code: {code}"


def _names(folder: Folder, host: Host) -> Path:
    file = folder.path.parent / "hosts"
    host.write_names(file)
    return file


def _common(folder: Folder, host: Host) -> dict[str, str]:
    return {"PYTHONUNBUFFERED": "1", "SAGEMAKER_BASE_DIR": folder.root, "CURRENT_HOST": host.name}


def _with_path(environment: dict[str, str], code: str) -> dict[str, str]:
    paths = [code, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    return {**environment, "PYTHONPATH": os.pathsep.join(paths)}


def _channel(channel: Document, algorithm: Document) -> Document:
    return {
        "TrainingInputMode": input_mode(channel, algorithm),
        "S3DistributionType": channel["DataSource"]["S3DataSource"].get(
            "S3DataDistributionType", "FullyReplicated"
        ),
        "RecordWrapperType": channel.get("RecordWrapperType", "None"),
        **({"ContentType": channel["ContentType"]} if "ContentType" in channel else {}),
    }


def _is_installed(text: str) -> bool:
    try:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate():
            return True
        return importlib.metadata.version(requirement.name) in requirement.specifier
    except (InvalidRequirement, importlib.metadata.PackageNotFoundError):
        return False
