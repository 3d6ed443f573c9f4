"""One frozen configuration: stagegate.toml, then the environment, then flags; the later one wins."""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from stagegate.errors import ConfigurationError
from stagegate.profiles import check_region, read_profile

FILE = "stagegate.toml"


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings, each with its default. In stagegate.toml they stand under the same names."""

    root: Path = field(default_factory=Path.cwd)
    """The project: where workflows/, training/, evaluation/, deploy/ and statemachines/ are."""
    project: str = "stagegate"
    """The prefix of every name that is made: stacks, state machines, functions, buckets."""
    target: str = "local"
    """`local`: the runtime on this machine. `aws`: the account of the AWS credentials in use."""
    endpoint_url: str = "http://127.0.0.1:4566"
    """Where the services answer when the target is `local`."""
    profile: str = ""
    """Of AWS's configuration files; "" for the credentials that boto3 finds by itself."""
    region: str = "us-east-1"
    data: Path = Path(".stagegate/local")
    """The data directory of the local runtime, below `root` unless absolute."""
    approvers: tuple[str, ...] = ("approver@example.com",)
    """Who is asked by mail."""
    required_approvals: int = 1
    """How many of them have to approve."""
    four_eyes: bool | None = None
    """Whether somebody else than who started a run decides about it; None: on AWS, and not on one machine."""
    sender: str = ""
    """Who mails come from: on AWS an identity in SES. Without one they go to an SNS topic, as text."""
    webhook_url: str = ""
    """Gets a signed POST for each request and each decision."""
    remove_staging: bool = False
    """Whether the staging stack is taken away once production has passed its tests."""
    platform: Mapping[str, str] = field(default_factory=dict)
    """Parameters of deploy/platform.yaml, by their names there."""
    accuracy_threshold: float = 0.60
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    """Given to the training script, over its own defaults."""
    preprocess: Mapping[str, str] = field(default_factory=dict)
    """Options of the preprocessing script: `image-size`, `validation-fraction`, `seed`."""

    @property
    def is_local(self) -> bool:
        return self.target == "local"

    @property
    def needs_four_eyes(self) -> bool:
        """On one machine there is one person, unless the setting says otherwise."""
        return not self.is_local if self.four_eyes is None else self.four_eyes

    @property
    def data_directory(self) -> Path:
        return self.root / self.data


ENVIRONMENT = {
    "STAGEGATE_PROJECT": "project",
    "STAGEGATE_TARGET": "target",
    "STAGEGATE_DATA": "data",
    "AWS_ENDPOINT_URL": "endpoint_url",
    "AWS_PROFILE": "profile",
    "AWS_DEFAULT_REGION": "region",
    "AWS_REGION": "region",
}
"""A later variable counts where two are of one setting."""


_OF_PROFILE = ("region", "endpoint_url")


def load_config(
    start: Path, *, environment: Mapping[str, str] = os.environ, flags: Mapping[str, Any] | None = None
) -> Config:
    """The configuration of the project that `start` lies in; a flag that is None was not given.

    Raises ConfigurationError for a setting that does not exist or has the wrong type.
    """
    root = find_root(start)
    settings: dict[str, Any] = {}
    if (path := root / FILE).exists():
        try:
            settings |= tomllib.loads(path.read_text())
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError(f"{path} is not valid TOML: {error}") from error
    settings = _with_profile(
        settings,
        {name: environment[key] for key, name in ENVIRONMENT.items() if environment.get(key)},
        {name: value for name, value in (flags or {}).items() if value is not None},
        environment=environment,
    )
    if "region" in settings:
        check_region(str(settings["region"]))
    config = replace(Config(root=root), **{name: _checked(name, value) for name, value in settings.items()})
    if config.required_approvals > len(config.approvers):
        raise ConfigurationError(
            f"{FILE}: required_approvals is {config.required_approvals}; it should be at most "
            f"{len(config.approvers)}, as many as there are approvers"
        )
    return config


def _with_profile(
    file: dict[str, Any],
    variables: dict[str, Any],
    flags: dict[str, Any],
    *,
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """All settings, with what a profile says of them: a named one as the environment does, but weaker.

    A profile that is named by nobody, or in stagegate.toml itself, gives way to stagegate.toml. The local
    runtime takes any credentials, so a profile counts there only where a flag or stagegate.toml asks for it.
    """
    is_local = (file | variables | flags).get("target", Config.target) == "local"
    if is_local:
        variables = {name: value for name, value in variables.items() if name != "profile"}
    named = (file | variables | flags).get("profile", "")
    if is_local and not named:
        return file | variables | flags
    profile = read_profile(str(named), environment)
    of_profile = {name: profile[name] for name in _OF_PROFILE if name in profile}
    is_asked_for = "profile" in variables | flags
    weaker = file | of_profile if is_asked_for else of_profile | file
    return weaker | variables | flags


def find_root(start: Path) -> Path:
    """The nearest folder from `start` upwards with a stagegate.toml; `start` itself if there is none."""
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / FILE).exists():
            return folder
    return start.resolve()


def _checked(name: str, value: Any) -> Any:
    kinds = {setting.name: setting.type for setting in fields(Config) if setting.name != "root"}
    if name not in kinds:
        raise ConfigurationError(f"{FILE}: there is no setting '{name}'; there are {', '.join(kinds)}")
    if name == "data":
        return Path(value)
    if name in ("hyperparameters", "preprocess", "platform"):
        if not isinstance(value, Mapping):
            raise ConfigurationError(f"{FILE}: '{name}' is {value!r}; it should be a table")
        return {str(key): _text(setting) for key, setting in value.items()}
    if name == "approvers":
        addresses = [value] if isinstance(value, str) else value
        if not isinstance(addresses, list) or not addresses or not all(map(_is_address, addresses)):
            raise ConfigurationError(f"{FILE}: approvers is {value!r}; it should be a list of mail addresses")
        if len({address.lower() for address in addresses}) < len(addresses):
            raise ConfigurationError(f"{FILE}: approvers is {value!r}; somebody is in it twice")
        return tuple(addresses)
    if name == "required_approvals":
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigurationError(f"{FILE}: required_approvals is {value!r}; it should be 1 or more")
        return value
    if name in ("four_eyes", "remove_staging"):
        if not isinstance(value, bool):
            raise ConfigurationError(f"{FILE}: {name} is {value!r}; it should be true or false")
        return value
    if name == "accuracy_threshold":
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ConfigurationError(f"accuracy_threshold is {value!r}; it should be a number from 0 to 1")
        return float(value)
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{name} is {value!r}; it should be a text")
    if name == "webhook_url" and not value.startswith(("https://", "http://")):
        raise ConfigurationError(f"{FILE}: webhook_url is '{value}'; it should begin with https://")
    if name == "target" and value not in ("local", "aws"):
        raise ConfigurationError(f"target is '{value}'; it should be 'local' or 'aws'")
    return value


def _text(value: Any) -> str:
    """As parameters and options are: lists with commas, and `true` as it is written."""
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[^@\s,]+@[^@\s,]+", value) is not None
