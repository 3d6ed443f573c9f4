"""Which account and region is meant: profiles of AWS's own configuration files, and the regions of AWS."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import botocore.session
from botocore.configloader import multi_file_load_config
from botocore.exceptions import ConfigParseError

from stagegate.errors import ConfigurationError

_SIGNS_IN = (
    *("aws_access_key_id", "role_arn", "source_profile", "credential_process", "web_identity_token_file"),
    *("sso_session", "sso_account_id", "sso_start_url", "login_session"),
)
"""Settings by which a profile has credentials."""


def read_profile(name: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings of a profile; "" for the one that counts where none is named, which need not exist.

    Raises ConfigurationError for one that is not there.
    """
    files = (
        Path(environment.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser(),
        Path(environment.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser(),
    )
    try:
        profiles: dict[str, dict[str, Any]] = multi_file_load_config(*map(str, files))["profiles"]
    except ConfigParseError as error:
        raise ConfigurationError(f"{error}: it should be as AWS's command line writes it.") from error
    if name and name not in profiles:
        there_are = f"there are {', '.join(sorted(profiles))}" if profiles else "there are none"
        raise ConfigurationError(
            f"There is no AWS profile '{name}' in {files[0]} and {files[1]}; {there_are}."
        )
    return profiles.get(name or "default", {})


def has_credentials(profile: Mapping[str, Any]) -> bool:
    return any(name in profile for name in _SIGNS_IN)


def check_region(region: str) -> None:
    """Raises ConfigurationError for one that AWS does not have."""
    session = botocore.session.Session()
    partitions = session.get_available_partitions()
    known = [it for partition in partitions for it in session.get_available_regions("sts", partition)]
    if region not in known:
        near = difflib.get_close_matches(region, known, n=3) or ["us-east-1", "eu-west-1", "ap-southeast-1"]
        raise ConfigurationError(
            f"region is '{region}'; there is no such region of AWS: near it are {', '.join(near)}."
        )
