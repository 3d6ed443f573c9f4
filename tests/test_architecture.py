"""Who may import whom: read from the imports themselves."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PIPELINE = ("workflows", "training", "evaluation", "deploy")

SERVICES = {
    "builds": ("builds", "build", "buildspec"),
    "cloudwatch": ("alarms", "alarm", "metrics", "metric"),
    "codecommit": ("codecommit", "git"),
    "events": ("events", "event"),
    "functions": ("functions", "function"),
    "logs": ("logs",),
    "mail": ("mail", "smtp", "inbox"),
    "sagemaker": ("sagemaker",),
    "scaling": ("scaling",),
    "schedules": ("schedules", "schedule"),
    "stacks": ("stacks",),
    "states": ("states",),
    "sts": ("sts",),
}
"""Of stagegate.local, the parts that are services, by the beginnings of the names of their modules."""

SHARED = {
    "apis",
    "archives",
    "clock",
    "deliveries",
    "event_patterns",
    "identity",
    "launcher",
    "log_stream",
    "pages",
    "pipe_streams",
    "processes",
    "recurrence",
    "service",
    "store",
    "s3",
    "targets",
}
"""What of stagegate.local every service may import."""


def modules(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "node_modules" not in path.parts)


def imports(path: Path) -> set[str]:
    """The dotted names that a file imports, wherever in it; relative ones made whole."""
    package = list(path.relative_to(ROOT).with_suffix("").parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parent = [*package[: len(package) - node.level]] if node.level else []
            module = ".".join([*parent, *([node.module] if node.module else [])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def breaches(paths: list[Path], forbidden) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in paths
        for name in sorted(imports(path))
        if forbidden(name)
    ]


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def service_of(path: Path) -> str | None:
    """The service that a module of stagegate.local belongs to."""
    first = path.relative_to(ROOT / "stagegate" / "local").parts[0].removesuffix(".py")
    for service, beginnings in SERVICES.items():
        if any(first == beginning or first.startswith(f"{beginning}_") for beginning in beginnings):
            return service
    return None


@pytest.mark.parametrize("folder", PIPELINE)
def test_the_pipeline_imports_nothing_of_stagegate(folder):
    assert breaches(modules(folder), lambda name: within(name, "stagegate")) == []


@pytest.mark.parametrize("folder", ["training", "evaluation"])
def test_training_and_evaluation_know_no_aws(folder):
    def is_aws(name):
        return any(within(name, sdk) for sdk in ("boto3", "botocore", "sagemaker", "stepfunctions"))

    assert breaches(modules(folder), is_aws) == []


def test_only_the_workflows_import_the_data_science_sdk():
    others = [*modules("stagegate"), *(path for folder in PIPELINE[1:] for path in modules(folder))]

    assert breaches(others, lambda name: within(name, "stepfunctions") or within(name, "sagemaker")) == []


def test_the_commands_reach_services_by_boto3_save_those_that_run_or_prune_them():
    commands = [path for path in modules("stagegate") if "local" not in path.relative_to(ROOT).parts]

    assert breaches(commands, lambda name: within(name, "stagegate.local")) == [
        "stagegate/cli/runtime.py imports stagegate.local.server",
        "stagegate/cli/runtime.py imports stagegate.local.server.prune_data",
        "stagegate/cli/runtime.py imports stagegate.local.server.run",
    ]


def test_the_local_runtime_imports_nothing_of_the_commands():
    allowed = ("stagegate", "stagegate.errors", "stagegate.local")

    def is_a_command(name):
        return within(name, "stagegate") and not any(
            name == module or name.startswith(f"{module}.") for module in allowed[1:]
        )

    assert breaches(modules("stagegate/local"), is_a_command) == []


def test_a_service_imports_no_other_and_nothing_of_the_endpoint():
    found = []
    for path in modules("stagegate/local"):
        service = service_of(path)
        if service is None:
            continue
        for name in sorted(imports(path)):
            if not name.startswith("stagegate.local."):
                continue
            first = name.split(".")[2]
            own = any(first == own or first.startswith(f"{own}_") for own in SERVICES[service])
            if not own and first not in SHARED:
                found.append(f"{path.relative_to(ROOT)} imports {name}")

    assert found == []


def test_pipes_are_opened_in_one_place():
    """It knows what uvloop does to their descriptors."""

    def connects(path):
        names = {
            node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)
        }
        return bool(names & {"connect_read_pipe", "connect_write_pipe"})

    found = [str(path.relative_to(ROOT)) for path in modules("stagegate") if connects(path)]

    assert found == ["stagegate/local/pipe_streams.py"]
