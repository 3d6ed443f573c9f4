"""Runs, models and endpoints: start a release, follow it, see what came of it."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from stagegate import display, models, pipeline
from stagegate.aws import Services
from stagegate.cli.base import as_json, command, console, local_time, main, print_json, print_table, served
from stagegate.deployment import Platform
from stagegate.errors import ReleaseFailed


@command
@click.argument("dataset", required=False)
@click.option("--threshold", type=click.FloatRange(0, 1), help="The accuracy that the gate asks for.")
@click.option(
    "--hyperparameter", "hyperparameters", metavar="NAME=VALUE", multiple=True, help="For training."
)
@click.option("--preprocess", "preprocess", metavar="NAME=VALUE", multiple=True, help="For preprocessing.")
@click.option(
    "--cache/--no-cache",
    "use_cache",
    default=True,
    help="Take what earlier runs made from the same code, data and parameters; or run each job.",
)
@click.option(
    "--approval",
    "rules",
    metavar="NAME=VALUE",
    multiple=True,
    help="A rule: Approvers=a@x.org,b@x.org, Required, FourEyes, TimeoutSeconds, ReminderSeconds.",
)
@click.option("--model-package", metavar="ARN", help="Deploy this approved model package by hand instead.")
@click.option("--watch/--no-watch", "watching", default=False, help="Follow the run to its end.")
def run(
    services: Services,
    platform: Platform,
    dataset: str | None,
    threshold: float | None,
    hyperparameters: tuple[str, ...],
    preprocess: tuple[str, ...],
    use_cache: bool,
    rules: tuple[str, ...],
    model_package: str | None,
    watching: bool,
) -> None:
    """Start a release of DATASET: a zip of class folders on this machine, or an s3:// URI.

    \b
    Example:
      stagegate run scenes.zip --watch
      stagegate run s3://bucket/datasets/scenes.zip --threshold 0.8 --hyperparameter epochs=20
      stagegate run --model-package arn:aws:sagemaker:…:model-package/stagegate-models/3
    """
    if (dataset is None) == (model_package is None):
        raise click.UsageError("Give either DATASET or --model-package.")
    approval = approval_rules(pairs(rules))
    if model_package is not None:
        arn = pipeline.start_deploy(services, platform, model_package, approval=approval)
    else:
        assert dataset is not None
        config = replace(
            services.config,
            accuracy_threshold=services.config.accuracy_threshold if threshold is None else threshold,
            hyperparameters={**services.config.hyperparameters, **pairs(hyperparameters)},
            preprocess={**services.config.preprocess, **pairs(preprocess)},
        )
        arn = pipeline.start_build(
            Services(config), platform, dataset=dataset, use_cache=use_cache, approval=approval
        )
    console.print(f"  started [bold]{escape(arn.rsplit(':', 1)[-1])}[/]", highlight=False)
    if watching:
        show(services, arn)


_RULES: dict[str, Callable[[str], Any]] = {
    "Approvers": lambda value: value.split(","),
    "Required": int,
    "FourEyes": {"true": True, "false": False}.__getitem__,
    "TimeoutSeconds": int,
    "ReminderSeconds": int,
}


def approval_rules(given: dict[str, str]) -> dict[str, Any]:
    """The rules of an approval as the state machine takes them."""
    rules = {}
    for name, value in given.items():
        if name not in _RULES:
            raise click.UsageError(f"There is no rule '{name}' of approval; there are {', '.join(_RULES)}.")
        try:
            rules[name] = _RULES[name](value)
        except (ValueError, KeyError) as error:
            raise click.UsageError(f"The rule {name} cannot be '{value}'.") from error
    return rules


def pairs(settings: tuple[str, ...]) -> dict[str, str]:
    """`("epochs=5",)` as {"epochs": "5"}."""
    for setting in settings:
        if "=" not in setting:
            raise click.UsageError(f"'{setting}' should read NAME=VALUE, for example epochs=5.")
    return dict(setting.split("=", 1) for setting in settings)


@command
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
@as_json
def runs(services: Services, platform: Platform, limit: int, as_json: bool) -> None:
    """List the runs of all state machines, newest first, and what started them.

    \b
    Example:
      stagegate runs --limit 5
      stagegate runs --json     with whole names
    """
    found = pipeline.list_runs(services, platform, limit=limit)
    triggers = [pipeline.trigger_of(services, run) for run in found]
    if as_json:
        both = zip(found, triggers, strict=True)
        print_json([asdict(run) | {"trigger": trigger} for run, trigger in both])
        return
    rows = [
        [
            escape(display.short_name(run.name)),
            escape(run.state_machine.removeprefix(f"{services.config.project}-")),
            display.styled(run.status),
            local_time(run.started),
            display.duration(run.seconds),
            escape(display.short_trigger(trigger)),
        ]
        for run, trigger in zip(found, triggers, strict=True)
    ]
    print_table("Runs", ("run", "state machine", "status", "started", "duration", "started by"), rows)


@command
@click.argument("name", metavar="RUN", required=False)
def watch(services: Services, platform: Platform, name: str | None) -> None:
    """Follow RUN, or the latest one, state by state. Exits 1 when it does not succeed.

    The first characters of its name do.

    \b
    Example:
      stagegate watch
      stagegate watch r-20261123-071500-1a2b
    """
    show(services, pipeline.find_run(services, platform, name).arn)


def show(services: Services, execution_arn: str) -> None:
    ended = display.Following(console, services).run(execution_arn)
    if ended.status != "SUCCEEDED":
        raise ReleaseFailed(f"The run {execution_arn.rsplit(':', 1)[-1]} ended as {ended.status}.")


@main.command("models")
@click.option("--limit", default=models.MODELS, show_default=True, type=click.IntRange(1, 1000))
@as_json
@served
def show_models(services: Services, platform: Platform, limit: int, as_json: bool) -> None:
    """List the registered model versions, newest first.

    \b
    Example:
      stagegate models
      stagegate models --limit 100 --json
    """
    found = models.latest_models(services, platform, limit=limit)
    if as_json:
        print_json([asdict(model) for model in found])
        return
    rows = [
        [
            str(model.version),
            display.styled(model.approval_status),
            escape(model.accuracy[:6]),
            escape(model.run_id),
            escape(model.commit[:12]),
            local_time(model.created),
            escape(model.approval_description),
        ]
        for model in found
    ]
    print_table("Models", ("version", "status", "accuracy", "run", "commit", "created", "decision"), rows)


@command
@as_json
def endpoints(services: Services, as_json: bool) -> None:
    """List what serves where: staging and production.

    \b
    Example:
      stagegate endpoints
    """
    found = models.list_endpoints(services)
    if as_json:
        print_json([asdict(endpoint) for endpoint in found])
        return
    rows = [
        [
            endpoint.stage,
            escape(endpoint.name),
            display.styled(endpoint.status),
            escape(endpoint.model_package_arn.rsplit(":", 1)[-1]),
            local_time(endpoint.updated),
        ]
        for endpoint in found
    ]
    print_table("Endpoints", ("stage", "endpoint", "status", "model package", "updated"), rows)


@command
@click.argument("stage", type=click.Choice(models.STAGES))
@click.argument(
    "images", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@as_json
def invoke(services: Services, stage: str, images: tuple[Path, ...], as_json: bool) -> None:
    """Classify IMAGES (.jpg, .png, .npy) by the endpoint of STAGE.

    \b
    Example:
      stagegate invoke production beach.jpg street.png
    """
    found = [models.invoke(services, stage, image=str(image), body=image.read_bytes()) for image in images]
    if as_json:
        print_json([asdict(prediction) for prediction in found])
        return
    console.print(display.predictions_table(stage, [(prediction, None) for prediction in found]))
