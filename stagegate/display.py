"""How releases look in a terminal: states as they pass, training as a bar, tables for the rest."""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.spinner import Spinner
from rich.table import Table

from stagegate.aws import Services
from stagegate.job_logs import LogFollower
from stagegate.models import Prediction
from stagegate.pipeline import RunEnded, StateEntered, StateExited, TaskStarted, follow

STATUS_STYLES = {
    "SUCCEEDED": "green",
    "RUNNING": "cyan",
    "FAILED": "red",
    "TIMED_OUT": "red",
    "ABORTED": "yellow",
    "Approved": "green",
    "Rejected": "red",
    "PendingManualApproval": "yellow",
    "InService": "green",
    "Failed": "red",
}
_MARKS = {"succeeded": "[green]✔[/]", "caught": "[yellow]↷[/]", "failed": "[red]✘[/]"}
_LOG_SECONDS = 1.0  # between two looks into the log of a training job
_EPOCH = re.compile(r"epoch=(\d+)/(\d+)(?: batch=(\d+)/(\d+))?")
_METRIC = re.compile(r"(\w+:\w+)=([0-9.]+)")


def styled(status: str) -> str:
    style = STATUS_STYLES.get(status)
    return f"[{style}]{escape(status)}[/]" if style else escape(status)


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"


def short_name(name: str) -> str:
    """Enough of a run's name to tell it by: EventBridge's are 73 characters long."""
    return name if len(name) <= 24 else f"{name[:13]}…"


def short_trigger(trigger: str) -> str:
    """`commit 3f1c2d4b5a69` of `commit 3f1c2d4b5a69…87 of models/main`."""
    return re.sub(r"^commit ([0-9a-f]{12})[0-9a-f]{28} of .*", r"commit \1", trigger)


def metrics_of(line: str) -> str:
    """`train:loss=0.51 train:accuracy=0.8` as `train 0.510 / 0.800  (loss / accuracy)`."""
    groups: dict[str, dict[str, float]] = {}
    for name, value in _METRIC.findall(line):
        group, _, metric = name.partition(":")
        groups.setdefault(group, {})[metric] = float(value)
    if not groups:
        return ""
    words = [
        f"{group} {' / '.join(f'{value:.3f}' for value in values.values())}"
        for group, values in groups.items()
    ]
    return "  ".join([*words, f"({' / '.join(next(iter(groups.values())))})"])


class Following:
    """Shows an execution to its end: a line for each state that has passed, what runs now below them,
    with a bar while a training job reports its epochs. `on_task` is told of each task that starts."""

    def __init__(
        self, console: Console, services: Services, *, on_task: Callable[[TaskStarted], None] | None = None
    ) -> None:
        self._console = console
        self._services = services
        self._on_task = on_task
        self._running: dict[str, Spinner] = {}
        self._bar = Progress(
            TextColumn("    {task.description}"),
            BarColumn(40),
            TextColumn("{task.fields[metrics]}"),
            console=console,
        )
        self._bar_task: TaskID | None = None
        self._log: LogFollower | None = None
        """Of the training job that runs."""
        self._looked = 0.0

    def run(self, execution_arn: str) -> RunEnded:
        """Follow the execution until it has ended; says how it ended."""
        with Live(self._picture(), console=self._console, refresh_per_second=8, transient=True) as live:
            for progress in follow(self._services, execution_arn):
                if isinstance(progress, StateEntered):
                    self._running[progress.name] = Spinner("dots", f" {escape(progress.name)}", style="cyan")
                elif isinstance(progress, TaskStarted):
                    self._started(progress)
                elif isinstance(progress, StateExited):
                    self._passed(progress)
                elif isinstance(progress, RunEnded):
                    ended = progress
                if self._log and time.monotonic() - self._looked > _LOG_SECONDS:
                    self._read(self._log)
                live.update(self._picture())
        self._console.print(f"  {styled(ended.status)} after {duration(ended.seconds)}")
        if ended.error or ended.cause:
            self._console.print(f"  [red]{escape(ended.error)}[/]: {escape(ended.cause)}")
        return ended

    def _started(self, task: TaskStarted) -> None:
        if task.resource.startswith("createTrainingJob"):
            self._log = LogFollower(self._services, "TrainingJobs", task.job_name)
        if self._on_task:
            self._on_task(task)

    def _picture(self) -> Group:
        return Group(*self._running.values(), *([self._bar] if self._bar_task is not None else []))

    def _passed(self, state: StateExited) -> None:
        self._running.pop(state.name, None)
        if self._log and self._bar_task is not None:
            self._read(self._log)
        if self._bar_task is not None:
            self._bar.remove_task(self._bar_task)
            self._bar_task = None
        self._log = None
        mark = _MARKS[state.outcome]
        self._console.print(f"  {mark} {escape(state.name):<32} [dim]{duration(state.seconds):>12}[/]")

    def _read(self, log: LogFollower) -> None:
        self._looked = time.monotonic()
        for line in log.advance():
            if match := _EPOCH.match(line.text):
                self._show_epoch(match, line.text)

    def _show_epoch(self, match: re.Match[str], text: str) -> None:
        epoch, epochs, batch, batches = (int(group) if group else None for group in match.groups())
        assert epoch is not None and epochs is not None
        done = epoch - 1 + batch / batches if batch and batches else float(epoch)
        metrics = metrics_of(text)
        if self._bar_task is None:
            self._bar_task = self._bar.add_task("training", total=epochs, metrics="")
        self._bar.update(
            self._bar_task,
            completed=done,
            total=epochs,
            description=f"epoch {epoch}/{epochs}",
            metrics=metrics,
        )
        if batch is None:
            self._console.print(f"    [dim]epoch {epoch}/{epochs}  {escape(metrics)}[/]")


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Group:
    """A title above a plain table; cells are rich markup."""
    body = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        body.add_column(column, header_style="dim", overflow="fold")
    for row in rows:
        body.add_row(*row)
    return Group(*([f"[bold]{escape(title)}[/]"] if title else []), Padding(body, (0, 0, 0, 2)))


def predictions_table(title: str, predictions: Iterable[tuple[Prediction, str | None]]) -> Group:
    """Predictions, each with the true class where it is known: a mark, the class, the three likeliest."""
    rows = []
    for prediction, truth in predictions:
        mark = "" if truth is None else "[green]✔[/]" if prediction.predicted == truth else "[red]✘[/]"
        likely = sorted(prediction.probabilities.items(), key=lambda entry: entry[1], reverse=True)[:3]
        rows.append(
            [
                mark,
                escape(prediction.image),
                f"[bold]{escape(prediction.predicted)}[/]",
                "  ".join(f"{escape(name)} {probability:.1%}" for name, probability in likely),
            ]
        )
    return table(title, ("", "image", "class", "probabilities"), rows)


def confusion_table(evaluation: str | bytes) -> Group:
    """The confusion matrix of an evaluation.json: a row for each true class, a column for each predicted."""
    matrix: dict[str, dict[str, int]] = json.loads(evaluation)["multiclass_classification_metrics"][
        "confusion_matrix"
    ]
    rows = []
    for truth, counts in matrix.items():
        cells = [_count(counts.get(name, 0), right=name == truth) for name in matrix]
        rows.append([escape(truth), *cells])
    return table("Confusion matrix (rows: true, columns: predicted)", ("", *matrix), rows)


def _count(count: int, *, right: bool) -> str:
    if right:
        return f"[bold green]{count}[/]"
    return f"[yellow]{count}[/]" if count else "[dim]·[/]"


@contextmanager
def step(console: Console, text: str) -> Iterator[None]:
    """A line that says what is being done, and a mark when it is."""
    with console.status(f" {text}"):
        yield
    console.print(f"  [green]✔[/] {text}")
