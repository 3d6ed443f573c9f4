import pytest

from stagegate.config import Config, find_root, load_config
from stagegate.errors import ConfigurationError


def test_without_a_file_the_defaults_hold(tmp_path):
    assert load_config(tmp_path, environment={}) == Config(root=tmp_path)


def test_the_file_gives_way_to_the_environment_and_that_to_flags(tmp_path):
    (tmp_path / "stagegate.toml").write_text('project = "a"\nregion = "eu-west-1"\ntarget = "aws"')

    config = load_config(
        tmp_path,
        environment={"STAGEGATE_PROJECT": "b", "AWS_REGION": "eu-north-1"},
        flags={"project": "c", "endpoint_url": None},
    )

    assert config == Config(root=tmp_path, project="c", region="eu-north-1", target="aws")


def test_the_root_is_found_upwards(tmp_path):
    (tmp_path / "stagegate.toml").write_text("")
    (tmp_path / "a" / "b").mkdir(parents=True)

    assert find_root(tmp_path / "a" / "b") == tmp_path


def test_four_eyes_are_asked_for_where_there_may_be_two_people(tmp_path):
    (tmp_path / "stagegate.toml").write_text("")

    needs = [
        load_config(tmp_path, environment={}, flags=flags).needs_four_eyes
        for flags in ({"target": "local"}, {"target": "aws"}, {"target": "local", "four_eyes": True})
    ]

    assert needs == [False, True, True]


def test_tables_hold_texts(tmp_path):
    (tmp_path / "stagegate.toml").write_text('[hyperparameters]\nepochs = 5\nlearning-rate = "0.1"')

    config = load_config(tmp_path, environment={})

    assert config.hyperparameters == {"epochs": "5", "learning-rate": "0.1"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("projekt = 'a'", "there is no setting 'projekt'"),
        ("target = 'moon'", "target is 'moon'; it should be 'local' or 'aws'"),
        ("accuracy_threshold = 60", "accuracy_threshold is 60; it should be a number from 0 to 1"),
        ("accuracy_threshold = true", "accuracy_threshold is True"),
        ("project = 3", "project is 3; it should be a text"),
        ("hyperparameters = 3", "'hyperparameters' is 3; it should be a table"),
        ("project =", "is not valid TOML"),
        ("approvers = []", "approvers is []; it should be a list of mail addresses"),
        ("approvers = ['ada']", "approvers is ['ada']; it should be a list of mail addresses"),
        (
            "approvers = ['a@x.org', 'A@x.org']",
            "approvers is ['a@x.org', 'A@x.org']; somebody is in it twice",
        ),
        ("required_approvals = 0", "required_approvals is 0; it should be 1 or more"),
        ("required_approvals = 2", "required_approvals is 2; it should be at most 1"),
        ("remove_staging = 1", "remove_staging is 1; it should be true or false"),
        ("four_eyes = 'no'", "four_eyes is 'no'; it should be true or false"),
        (
            "webhook_url = 'chat.example.com'",
            "webhook_url is 'chat.example.com'; it should begin with https://",
        ),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, text, message):
    (tmp_path / "stagegate.toml").write_text(text)

    with pytest.raises(ConfigurationError) as caught:
        load_config(tmp_path, environment={})

    assert message in str(caught.value)


PROFILES = """
[default]
region = ap-south-1
[profile work]
region = eu-west-1
endpoint_url = http://127.0.0.1:4600
"""


@pytest.mark.parametrize(
    ("file", "environment", "flags", "region"),
    [
        ("", {}, {}, "ap-south-1"),
        ("", {"AWS_PROFILE": "work"}, {}, "eu-west-1"),
        ("", {"AWS_PROFILE": "work", "AWS_DEFAULT_REGION": "eu-north-1"}, {}, "eu-north-1"),
        ("", {"AWS_REGION": "eu-west-3", "AWS_DEFAULT_REGION": "eu-north-1"}, {}, "eu-west-3"),
        ("", {"AWS_REGION": "eu-west-3"}, {"profile": "work", "region": "us-west-2"}, "us-west-2"),
        ("region = 'us-east-2'", {}, {}, "us-east-2"),
        ("region = 'us-east-2'", {"AWS_PROFILE": "work"}, {}, "eu-west-1"),
        ("region = 'us-east-2'", {}, {"profile": "work"}, "eu-west-1"),
        ("region = 'us-east-2'\nprofile = 'work'", {}, {}, "us-east-2"),
        ("profile = 'work'", {}, {}, "eu-west-1"),
        ("", {}, {"target": "local"}, "us-east-1"),
        ("", {"AWS_PROFILE": "work"}, {"target": "local"}, "us-east-1"),
        ("", {}, {"target": "local", "profile": "work"}, "eu-west-1"),
    ],
)
def test_the_region_is_that_of_who_says_it_most_closely(tmp_path, file, environment, flags, region):
    (tmp_path / "stagegate.toml").write_text(file)
    (tmp_path / "config").write_text(PROFILES)
    files = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "no")}

    config = load_config(tmp_path, environment=files | environment, flags={"target": "aws"} | flags)

    assert config.region == region


def test_a_profile_may_lead_to_a_local_runtime(tmp_path):
    (tmp_path / "config").write_text(PROFILES)
    files = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "no")}

    named = load_config(tmp_path, environment=files, flags={"profile": "work"})
    overruled = load_config(
        tmp_path, environment=files | {"AWS_ENDPOINT_URL": "http://127.0.0.1:4700"}, flags={"profile": "work"}
    )

    assert (named.endpoint_url, named.profile) == ("http://127.0.0.1:4600", "work")
    assert overruled.endpoint_url == "http://127.0.0.1:4700"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"profile": "home"}, "There is no AWS profile 'home' in .*; there are default, work"),
        (
            {"region": "eu-west-9"},
            "region is 'eu-west-9'; there is no such region of AWS: near it are eu-west-",
        ),
    ],
)
def test_a_profile_or_region_that_is_not_there_is_named(tmp_path, flags, message):
    (tmp_path / "config").write_text(PROFILES)

    with pytest.raises(ConfigurationError, match=message):
        load_config(tmp_path, environment={"AWS_CONFIG_FILE": str(tmp_path / "config")}, flags=flags)
