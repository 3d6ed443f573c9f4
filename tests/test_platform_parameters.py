"""What the table [platform] may set."""

from dataclasses import replace
from pathlib import Path

import pytest

from stagegate.config import load_config
from stagegate.errors import ConfigurationError
from stagegate.platform_parameters import chosen_parameters

ROOT = Path(__file__).parent.parent
TEMPLATE = (ROOT / "deploy" / "platform.yaml").read_text()


def test_values_are_given_as_cloudformation_takes_them(tmp_path):
    (tmp_path / "stagegate.toml").write_text(
        '[platform]\nMonthlyBudget = 300\nVpcSubnetIds = ["a", "b"]\nX = true'
    )

    config = load_config(tmp_path, environment={})

    assert config.platform == {"MonthlyBudget": "300", "VpcSubnetIds": "a,b", "X": "true"}


@pytest.mark.parametrize(
    ("platform", "message"),
    [
        ({"KmsKey": "x"}, "[platform] sets KmsKey, which deploy/platform.yaml has no parameter for"),
        ({"Approvers": "x"}, "[platform] sets Approvers, which is the setting approvers"),
        ({"CreateDataBucket": "true"}, "which is what `stagegate up` finds out"),
        ({"VpcId": "vpc-1"}, "[platform] sets VpcId; it should set all of VpcId, VpcSubnetIds,"),
    ],
)
def test_what_cannot_be_set_is_refused(platform, message):
    config = replace(load_config(ROOT, environment={}), platform=platform)

    with pytest.raises(ConfigurationError) as refused:
        chosen_parameters(config, TEMPLATE)

    assert message in str(refused.value)


def test_every_parameter_is_the_user_s_or_set_by_up():
    allowed = {"TrainingInstanceType": "ml.m5.large", "AlarmMail": "ops@example.com"}
    config = replace(load_config(ROOT, environment={}), platform=allowed)

    assert chosen_parameters(config, TEMPLATE) == allowed
