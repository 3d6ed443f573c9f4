"""What the commands, settings and documents say of each other is true."""

import re
from configparser import ConfigParser
from dataclasses import fields
from pathlib import Path

import pytest

from stagegate.cli import main
from stagegate.config import ENVIRONMENT, Config

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", sorted(main.commands))
def test_each_command_has_help_with_an_example(name):
    text = main.commands[name].help

    assert f"Example:\n  stagegate {name}" in re.sub(r"\n\s+stagegate", "\n  stagegate", text)


@pytest.mark.parametrize("name", sorted(main.commands))
def test_each_option_has_help(name):
    for parameter in main.commands[name].params:
        if parameter.param_type_name == "option" and parameter.name != "limit":
            assert parameter.help, f"{name} --{parameter.name}"


def test_each_command_is_in_the_readme():
    readme = (ROOT / "README.md").read_text()

    assert [name for name in main.commands if f"stagegate {name}" not in readme] == []


def test_each_setting_is_documented():
    documented = set(
        re.findall(r"^\| `(\w+)`", (ROOT / "docs" / "configuration.md").read_text(), re.MULTILINE)
    )

    assert documented == {setting.name for setting in fields(Config)} - {"root"}
    for variable in ENVIRONMENT:
        assert variable in (ROOT / "docs" / "configuration.md").read_text()


def test_each_dependency_is_explained():
    explained = (ROOT / "docs" / "dependencies.md").read_text()
    settings = ConfigParser(interpolation=None)
    settings.read(ROOT / "setup.cfg")
    lists = [settings["options"]["install_requires"], *settings["options.extras_require"].values()]
    asked = re.findall(r"^([a-zA-Z][\w-]+)", "\n".join(lists), re.MULTILINE)

    assert [name for name in asked if name not in explained and not name.startswith("types-")] == []


def test_links_between_documents_lead_somewhere():
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
