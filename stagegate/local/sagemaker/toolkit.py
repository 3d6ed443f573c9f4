"""What a script is told as by the sagemaker-training toolkit: its arguments and the SM_ variables.

A test runs the toolkit itself beside this and compares them.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stagegate.local.sagemaker.hosts import NETWORK_INTERFACE, Host
from stagegate.local.sagemaker.resources import refuse

_NOT_THE_SCRIPTS = ("_tuning_objective_metric", "default_user_module_name")
_NOT_THE_FRAMEWORKS = (
    *("sagemaker_program", "sagemaker_submit_directory", "sagemaker_enable_cloudwatch_metrics"),
    *("sagemaker_region", "sagemaker_container_log_level", "sagemaker_job_name", "sagemaker_s3_output"),
)
# The hyperparameters by which the SDK's `distribution` says how the training is spread over the hosts.
_BY_TORCHRUN = ("sagemaker_torch_distributed_enabled", "sagemaker_pytorch_ddp_enabled")
_BY_OTHERS = (
    *("sagemaker_mpi_enabled", "sagemaker_parameter_server_enabled"),
    *("sagemaker_distributed_dataparallel_enabled", "sagemaker_pytorch_xla_multi_worker_enabled"),
    "sagemaker_multi_worker_mirrored_strategy_enabled",
)
_INFO = 20

Document = dict[str, Any]


def value_of(text: str) -> Any:
    """The SageMaker SDK writes hyperparameters as JSON; others write plain texts."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def script_parameters(parameters: Mapping[str, str]) -> Document:
    """The hyperparameters that are meant for the script."""
    return {
        name: value_of(text)
        for name, text in parameters.items()
        if not name.startswith("sagemaker_") and name not in _NOT_THE_SCRIPTS
    }


def check_distribution(parameters: Mapping[str, str]) -> None:
    """Refuse a distribution that we cannot provide."""
    asked = [name for name in _BY_OTHERS if value_of(parameters.get(name, "false"))]
    refuse([(f"the hyperparameter {name}", True) for name in asked], operation="CreateTrainingJob")


def script_command(program: str, parameters: Mapping[str, str], host: Host, *, leader: str) -> list[str]:
    """What runs the script on a host: its interpreter, or torchrun."""
    arguments = script_arguments(script_parameters(parameters))
    given = {name: value_of(text) for name, text in parameters.items()}
    groups = _distribution_groups(given, host)
    if not any(given.get(name) for name in _BY_TORCHRUN) or host.group.name not in groups:
        return ["sh" if program.endswith(".sh") else "python3", program, *arguments]
    hosts = [name for group in host.groups if group.name in groups for name in group.hosts]
    processes = given.get("sagemaker_mpi_num_of_processes_per_host") or _gpus() or 1
    command = ["torchrun", "--nnodes", str(len(hosts)), "--nproc_per_node", str(processes)]
    if len(hosts) > 1:
        command += ["--master_addr", leader, "--master_port", str(host.port)]
        command += ["--node_rank", str(hosts.index(host.name))]
    return [*command, program, *arguments]


def script_arguments(users: Document) -> list[str]:
    """`--epochs 5 -b 32`, in the order of their names."""
    return [part for name in sorted(users) for part in (_flag(name), _argument(users[name]))]


def script_variables(
    job: Document,
    host: Host,
    *,
    channels: Document,
    inside: Callable[[str], str],
    program: str | None,
    region: str,
) -> dict[str, str]:
    """The variables. `inside` gives a path below /opt/ml as the script sees it."""
    parameters = {name: value_of(text) for name, text in job.get("HyperParameters", {}).items()}
    users = script_parameters(job.get("HyperParameters", {}))
    framework = {
        name: value
        for name, value in parameters.items()
        if name.startswith("sagemaker_") and name not in _NOT_THE_FRAMEWORKS
    }
    known = {
        **_of_the_hosts(host, framework),
        "framework_module": None,
        "input_config_dir": inside("input/config"),
        "input_data_config": channels,
        "input_dir": inside("input"),
        "log_level": parameters.get("sagemaker_container_log_level", _INFO),
        "model_dir": inside("model"),
        "module_dir": parameters.get("sagemaker_submit_directory", inside("code")),
        "module_name": program.removesuffix(".py") if program else None,
        "num_cpus": os.cpu_count(),
        "num_gpus": _gpus(),
        "num_neurons": 0,
        "output_data_dir": inside("output/data"),
        "output_dir": inside("output"),
        "output_intermediate_dir": inside("output/intermediate"),
        "resource_config": host.resource_config(),
        "user_entry_point": program,
    }
    distributed = known["distribution_instance_groups"]
    hosts = [name for group in host.groups if group.name in distributed for name in group.hosts]
    leader = (hosts or host.hosts)[0]
    folders = {name: inside(f"input/data/{name}") for name in channels}
    document = {
        **known,
        "additional_framework_parameters": framework,
        "channel_input_dirs": folders,
        "distribution_hosts": hosts,
        "hyperparameters": users,
        "is_master": host.name == leader,
        "is_modelparallel_enabled": None,
        "is_smddpmprun_installed": False,
        "is_smddprun_installed": False,
        "job_name": job["TrainingJobName"],
        "master_hostname": leader,
        "topology": [],
    }
    told = {
        **known,
        "channels": sorted(channels),
        "framework_params": framework,
        "hps": users,
        "training_env": document,
        "user_args": script_arguments(users),
        **{f"channel_{name}": path for name, path in folders.items()},
        **{f"hp_{name}": value for name, value in users.items()},
    }
    return {
        "SAGEMAKER_JOB_NAME": _text(parameters.get("sagemaker_job_name")),
        "SAGEMAKER_REGION": _text(parameters.get("sagemaker_region", region)),
        **{f"SM_{name.upper()}": _text(value) for name, value in told.items()},
    }


def _of_the_hosts(host: Host, framework: Document) -> Document:
    return {
        "current_host": host.name,
        "current_instance_group": host.group.name,
        "current_instance_group_hosts": list(host.group.hosts),
        "current_instance_type": host.group.instance_type,
        "distribution_instance_groups": _distribution_groups(framework, host),
        "hosts": host.hosts,
        "instance_groups": [group.name for group in host.groups],
        "instance_groups_dict": {
            entry["instance_group_name"]: entry for entry in host.resource_config()["instance_groups"]
        },
        "is_hetero": len(host.groups) > 1,
        "network_interface_name": NETWORK_INTERFACE,
    }


def _distribution_groups(framework: Document, host: Host) -> list[str]:
    """The instance groups over which the training is spread."""
    asked = any(framework.get(name) for name in (*_BY_TORCHRUN, *_BY_OTHERS))
    groups: list[str] = framework.get(
        "sagemaker_distribution_instance_groups", [host.group.name] if asked else []
    )
    return groups


def _gpus() -> int:
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _argument(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{name}={entry}" for name, entry in sorted(value.items()))
    return "" if value is None else str(value)


def _flag(name: str) -> str:
    return f"-{name}" if len(name) == 1 else f"--{name}"
