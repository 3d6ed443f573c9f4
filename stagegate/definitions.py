"""A state machine's definition as it is deployed: its jobs in the account's own network, with its own key.

What SageMaker takes for it are objects and lists, which CloudFormation's substitutions cannot put in.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from stagegate.errors import ConfigurationError

TRAINING = "sagemaker:createTrainingJob"
PROCESSING = "sagemaker:createProcessingJob"
_OUTPUTS = {TRAINING: "OutputDataConfig", PROCESSING: "ProcessingOutputConfig"}


def within_account(definition: str, parameters: Mapping[str, str]) -> str:
    """The definition with what `parameters` of the platform say of network and key; else as it is.

    Raises ConfigurationError for a job whose request is not written out in the definition.
    """
    subnets, groups = (_listed(parameters.get(name, "")) for name in ("VpcSubnetIds", "VpcSecurityGroupIds"))
    key = parameters.get("KmsKeyArn", "")
    if not subnets and not key:
        return definition
    machine: dict[str, Any] = json.loads(definition)
    for name, state in _states(machine):
        kind = next((kind for kind in _OUTPUTS if kind in str(state.get("Resource"))), None)
        if kind is None:
            continue
        request = _object(state, "Arguments" if "Arguments" in state else "Parameters", name)
        if subnets:
            network = request if kind == TRAINING else _object(request, "NetworkConfig", name)
            network["VpcConfig"] = {"Subnets": subnets, "SecurityGroupIds": groups}
        if key:
            _object(request, _OUTPUTS[kind], name)["KmsKeyId"] = key
    return json.dumps(machine, indent=2)


def _states(machine: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """All states, also those of branches and of what a Map runs."""
    for name, state in machine["States"].items():
        yield name, state
        inner = [
            *state.get("Branches", ()),
            *(state[it] for it in ("ItemProcessor", "Iterator") if it in state),
        ]
        for part in inner:
            yield from _states(part)


def _object(of: dict[str, Any], member: str, state: str) -> dict[str, Any]:
    """The member, made where it is missing."""
    value = of.setdefault(member, {})
    if not isinstance(value, dict) or f"{member}.$" in of:
        raise ConfigurationError(
            f"The state {state} does not write out {member} of its job, so that what [platform] says of "
            "network and key cannot be put in: write it as an object"
        )
    return value


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]
