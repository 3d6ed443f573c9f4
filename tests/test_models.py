"""Versions in the registry, a page at a time."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from stagegate.aws import Services
from stagegate.config import Config
from stagegate.deployment import Platform
from stagegate.errors import NotFound
from stagegate.models import latest_models, list_models
from tests.conftest import ROOT, Local

VERSIONS = 30


@pytest.fixture(scope="module")
def services(shared_local: Local) -> Services:
    made = Services(Config(root=ROOT, endpoint_url=shared_local.endpoint_url, data=shared_local.data))
    made("sagemaker").create_model_package_group(ModelPackageGroupName="many")
    for number in range(VERSIONS):
        made("sagemaker").create_model_package(
            ModelPackageGroupName="many", CustomerMetadataProperties={"RunId": f"r-{number}"}
        )
    return made


@pytest.fixture(scope="module")
def platform() -> Platform:
    names = {field.name: "" for field in dataclasses.fields(Platform)}
    return Platform(**names | {"model_package_group": "many"})


@pytest.fixture
def described(services: Services) -> Iterator[list[Any]]:
    """The calls that describe a version."""
    calls: list[Any] = []
    events = services("sagemaker").meta.events
    events.register("before-call.sagemaker.DescribeModelPackage", lambda **of: calls.append(of), "counted")
    yield calls
    events.unregister("before-call.sagemaker.DescribeModelPackage", unique_id="counted")


def test_a_page_describes_no_more_than_it_shows(
    services: Services, platform: Platform, described: list[Any]
) -> None:
    first = list_models(services, platform)

    assert [model.version for model in first.models] == list(range(30, 5, -1))
    assert len(described) == 25


def test_the_pages_have_each_version_once(services: Services, platform: Platform) -> None:
    first = list_models(services, platform)
    second = list_models(services, platform, begin=first.following)

    assert [model.run_id for model in first.models + second.models] == [f"r-{n}" for n in range(29, -1, -1)]
    assert second.following == ""


def test_so_many_are_listed_as_are_asked_for(services: Services, platform: Platform) -> None:
    assert len(latest_models(services, platform, limit=3)) == 3
    assert len(latest_models(services, platform, limit=100)) == VERSIONS


def test_a_page_that_is_not_there_is_not_found(services: Services, platform: Platform) -> None:
    with pytest.raises(NotFound, match="go to the first page"):
        list_models(services, platform, begin="nonsense")
