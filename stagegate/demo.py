"""`stagegate demo`: a model released end to end on this machine, from drawn pictures to production."""

import json
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.markup import escape

from stagegate import display, local_server, models, pipeline
from stagegate.aws import Services, explained
from stagegate.config import Config
from stagegate.cost import PRICES, Assumptions, estimate, measured_minutes, read_prices, read_usage, summary
from stagegate.deployment import Platform, deploy_platform, read_platform
from stagegate.doctor import default_files, read_project
from stagegate.errors import ReleaseFailed
from stagegate.inbox import Mail, approve_by_link, read_inbox

Found = TypeVar("Found")

_IMAGES_PER_CLASS = 200
_PICTURES = slice(4, 6)
"""Which of a class's test pictures are classified at the end."""
_RIGHT_PREDICTIONS = 8
"""Of two test pictures a class, so many must be right."""
_WAIT_SECONDS = 30.0


def run_demo(console: Console, config: Config, *, keep: bool) -> None:
    """Release a model; raises ReleaseFailed, and any other StagegateError, where a step does not succeed.

    What it makes lies in `.stagegate/demo`, made anew each time; its processes end with it, unless `keep`.
    """
    began = time.monotonic()
    data = config.root / ".stagegate" / "demo"
    local_server.stop(data)
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    endpoint_url = f"http://127.0.0.1:{local_server.free_port()}"
    config = replace(config, target="local", endpoint_url=endpoint_url, data=data)
    try:
        with explained(config):
            demo = Demo(console, config, keep=keep)
            demo.release()
            costs = demo.costs()
        console.print(f"\n[bold green]Released[/] in {display.duration(time.monotonic() - began)}.")
        _say_where(console, config, keep=keep)
        for line in costs:
            console.print(line, highlight=False, soft_wrap=True)
    except BaseException:
        console.print(
            f"\n[red]The demo did not succeed.[/] What there is lies in {data}; see server.log there."
        )
        keep = False
        raise
    finally:
        if not keep:
            local_server.stop(data)


class Demo:
    """The steps of the demo, in the order in which they happen."""

    def __init__(self, console: Console, config: Config, *, keep: bool) -> None:
        self._console = console
        self._config = config
        self._keep = keep
        self._services = Services(config)
        self._mails_seen = 0

    def release(self) -> None:
        dataset = self._draw_dataset()
        self._bring_up()
        platform = read_platform(self._services)
        run_id = self._build(platform, dataset)
        self._deploy(platform, run_id)
        self._predict(dataset)

    def costs(self) -> tuple[str, ...]:
        """What the same costs on AWS, were its jobs as fast there: a line for a run, one for a month."""
        root = self._config.root
        estimated = estimate(
            read_usage(read_project(default_files(root), root=root), root=root),
            read_prices(PRICES),
            Assumptions(),
            approvers=len(self._config.approvers),
            mails_by="ses" if self._config.sender else "sns",
            measured=measured_minutes(self._services, read_platform(self._services)),
        )
        run, month = summary(estimated)
        return (f"{run} Its jobs as long as they took here; `stagegate cost` has each item.", month)

    def _draw_dataset(self) -> Path:
        self._heading(
            "A dataset", "six classes of drawn scenes, in the layout of the Intel Image Classification zip"
        )
        dataset = self._config.data_directory / "scenes.zip"
        with display.step(self._console, f"{6 * _IMAGES_PER_CLASS} pictures in {self._relative(dataset)}"):
            subprocess.run(
                [
                    *(sys.executable, "-m", "training.sample_data"),
                    *("--output", str(dataset), "--seed", "0", "--images-per-class", str(_IMAGES_PER_CLASS)),
                ],
                cwd=self._config.root,
                check=True,
                stdout=subprocess.DEVNULL,
            )
        return dataset

    def _bring_up(self) -> None:
        self._heading("The platform", "AWS on this machine, and the stack of deploy/platform.yaml on it")
        with display.step(self._console, f"local runtime at {self._config.endpoint_url}"):
            local_server.start(self._config, with_parent=not self._keep)
        with display.step(
            self._console, "stack: buckets, roles, functions, table, topic, rule, state machines"
        ):
            for _event in deploy_platform(self._services):
                pass

    def _build(self, platform: Platform, dataset: Path) -> str:
        self._heading("model-build", "prepare, train, evaluate, gate, register, ask a person")
        arn = pipeline.start_build(self._services, platform, dataset=str(dataset))
        run_id = arn.rsplit(":", 1)[-1]

        def show_evaluation() -> None:
            model = next(
                model
                for model in models.list_models(self._services, platform).models
                if model.run_id == run_id
            )
            evaluation = self._object(
                f"s3://{platform.data_bucket}/{model.evaluation_prefix}/evaluation.json"
            )
            self._console.print(display.confusion_table(evaluation))

        self._follow(arn, before_answer=show_evaluation)
        return run_id

    def _deploy(self, platform: Platform, run_id: str) -> None:
        self._heading(
            "model-deploy", "started by the event that the package was approved: staging, tests, production"
        )

        def started() -> str | None:
            runs = pipeline.list_runs(self._services, platform)
            return next((run.arn for run in runs if run.arn.split(":")[6] in platform.model_deploy_arn), None)

        arn = self._wait_for(started, what="the rule to start model-deploy")
        self._follow(arn, before_answer=lambda: self._show_tests(platform, run_id, "staging"))
        self._show_tests(platform, run_id, "production")

    def _show_tests(self, platform: Platform, run_id: str, stage: str) -> None:
        """The report of a stage's endpoint tests, which the deployment keeps below the run."""
        keys = self._services("s3").list_objects_v2(
            Bucket=platform.data_bucket, Prefix=f"runs/{run_id}/tests/"
        )
        key = next(
            entry["Key"] for entry in keys["Contents"] if entry["Key"].endswith(f"/{stage}/summary.json")
        )
        report = json.loads(self._object(f"s3://{platform.data_bucket}/{key}"))
        rows = [["tests passed", f"{report['passed']} of {report['passed'] + report['failed']}"]]
        rows += [[escape(name), f"{value:g}"] for name, value in report["measured"].items()]
        rows += [["[red]failed[/]", escape(failure)] for failure in report["failures"]]
        self._console.print(display.table(f"Endpoint tests, {stage}", ("measure", "value"), rows))

    def _follow(self, arn: str, *, before_answer: Callable[[], None]) -> None:
        def on_task(task: pipeline.TaskStarted) -> None:
            if task.resource.endswith(".waitForTaskToken"):
                before_answer()
                self._answer_mail()

        ended = display.Following(self._console, self._services, on_task=on_task).run(arn)
        if ended.status != "SUCCEEDED":
            raise ReleaseFailed(
                f"{arn.rsplit(':', 1)[-1]} ended as {ended.status}: {ended.error}: {ended.cause}"
            )

    def _answer_mail(self) -> None:
        mail = self._wait_for(self._next_mail, what="the mail that asks for approval")
        self._console.print(f"    ✉ to {escape(mail.recipient)}: [bold]{escape(mail.subject)}[/]")
        link = approve_by_link(mail, comment="approved by the demo itself")
        self._console.print("    [green]approved[/] by the demo itself, through the mail's link:")
        self._console.print(f"    [dim]{escape(link)}[/]", soft_wrap=True)

    def _next_mail(self) -> Mail | None:
        asking = [mail for mail in read_inbox(self._config) if "decision=approve" in mail.text]
        if len(asking) == self._mails_seen:
            return None
        self._mails_seen += 1
        return asking[self._mails_seen - 1]

    def _predict(self, dataset: Path) -> None:
        self._heading("Production", "two test pictures of each class, classified by the production endpoint")
        predictions = []
        for truth, name, body in _test_images(dataset):
            predictions.append((models.invoke(self._services, "production", image=name, body=body), truth))
        self._console.print(display.predictions_table("", predictions))
        right = sum(prediction.predicted == truth for prediction, truth in predictions)
        self._console.print(f"  {right} of {len(predictions)} right")
        if right < _RIGHT_PREDICTIONS:
            raise ReleaseFailed(
                f"Only {right} of {len(predictions)} predictions are right, not {_RIGHT_PREDICTIONS}."
            )

    def _object(self, uri: str) -> bytes:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        content: bytes = self._services("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
        return content

    def _wait_for(self, look: Callable[[], Found | None], *, what: str) -> Found:
        deadline = time.monotonic() + _WAIT_SECONDS
        while (found := look()) is None:
            if time.monotonic() > deadline:
                raise ReleaseFailed(f"Waited {_WAIT_SECONDS:.0f} s in vain for {what}.")
            time.sleep(0.1)
        return found

    def _heading(self, title: str, text: str) -> None:
        self._console.print(f"\n[bold]{title}[/]  [dim]{text}[/]")

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self._config.root))


def _test_images(dataset: Path) -> Iterator[tuple[str, str, bytes]]:
    """Two pictures of each class of the test set: class, file name, content."""
    with zipfile.ZipFile(dataset) as archive:
        names = sorted(
            name for name in archive.namelist() if name.startswith("seg_test/") and name.endswith(".jpg")
        )
        classes: dict[str, list[str]] = {}
        for name in names:
            classes.setdefault(Path(name).parent.name, []).append(name)
        for truth, pictures in sorted(classes.items()):
            for name in pictures[_PICTURES]:
                yield truth, f"{truth}/{Path(name).name}", archive.read(name)


def _say_where(console: Console, config: Config, *, keep: bool) -> None:
    data = config.data_directory.relative_to(config.root)
    rows = [
        [str(data / "scenes.zip"), "the dataset"],
        [str(data / "jobs"), "the jobs' folders: what they read and wrote"],
        [str(data / "inbox"), "the mails"],
        [str(data / "stagegate.db"), "executions, models, stacks, rules: all that the runtime holds"],
        [str(data / "server.log"), "what the runtime said"],
    ]
    console.print(display.table("On disk", ("path", "what"), rows))
    look = f"AWS_ENDPOINT_URL={config.endpoint_url} STAGEGATE_DATA={data} .venv/bin/stagegate"
    if not keep:
        console.print(f"Start it again:  {look} up", soft_wrap=True)
    console.print(f"Look around:     {look} console", soft_wrap=True)
    if keep:
        address = local_server.console_address(config.endpoint_url)
        console.print(f"In a browser:    {address}", soft_wrap=True)
        console.print(f"Stop it:         {look} down", soft_wrap=True)
