"""Which hyperparameters a tuning job tries next: a grid, at random, or by what the jobs before have shown.

Nothing is kept between two calls: a search is rebuilt from the jobs that there are, so that it goes on after
a restart as if there had been none. https://docs.aws.amazon.com/sagemaker/latest/dg/automatic-model-tuning-how-it-works.html
"""

import importlib.util
import itertools
import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_TRIES = 1_000
_LOGARITHMIC_FROM = 1_000  # a range whose ends are this far apart is searched by magnitude where AWS chooses
_AT_RANDOM = 5  # jobs, before there is something to learn from

Values = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Range:
    """One hyperparameter to tune; a categorical one has `values`, the others have ends."""

    name: str
    values: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    is_integer: bool = False
    scaling: str = "Linear"

    @property
    def combinations(self) -> float:
        if self.values:
            return len(self.values)
        return self.high - self.low + 1 if self.is_integer else math.inf

    def at(self, place: float) -> str:
        """The value at a place between 0 and 1."""
        if self.values:
            return self.values[min(int(place * len(self.values)), len(self.values) - 1)]
        end, scaling = self._end, self._scaling
        if scaling == "Logarithmic":
            value = self.low * (end / self.low) ** place
        elif scaling == "ReverseLogarithmic":
            value = 1 - (1 - self.low) * ((1 - end) / (1 - self.low)) ** place
        else:
            value = self.low + place * (end - self.low)
        value = min(max(value, self.low), self.high)
        return str(math.floor(value)) if self.is_integer else repr(value)

    def place(self, value: str) -> float:
        """The inverse of `at`."""
        number = float(value) + (0.5 if self.is_integer else 0.0)
        end, scaling = self._end, self._scaling
        if end == self.low:
            return 0.0
        if scaling == "Logarithmic":
            place = math.log(number / self.low) / math.log(end / self.low)
        elif scaling == "ReverseLogarithmic":
            place = math.log((1 - number) / (1 - self.low)) / math.log((1 - end) / (1 - self.low))
        else:
            place = (number - self.low) / (end - self.low)
        return min(max(place, 0.0), 1.0)

    @property
    def _end(self) -> float:
        return self.high + 1 if self.is_integer else self.high

    @property
    def _scaling(self) -> str:
        if self.scaling != "Auto":
            return self.scaling
        spans = self.low > 0 and self.high / self.low >= _LOGARITHMIC_FROM
        return "Logarithmic" if spans else "Linear"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What an earlier training job was given, and what came of it; None while it runs, or where it failed."""

    values: Values
    objective: float | None = None
    is_under_way: bool = False


def combinations(ranges: Sequence[Range]) -> float:
    return math.prod(one.combinations for one in ranges)


def grid(ranges: Sequence[Range], number: int) -> dict[str, str]:
    """The combination of this number, from 0."""
    chosen = next(itertools.islice(itertools.product(*(one.values for one in ranges)), number, None))
    return {one.name: value for one, value in zip(ranges, chosen, strict=True)}


def at_random(ranges: Sequence[Range], trials: Sequence[Trial], *, seed: int, number: int) -> dict[str, str]:
    """Independent of what the others have shown; no combination comes twice."""
    chance = random.Random(f"{seed}/{number}")
    for _ in range(_TRIES):
        values = {one.name: one.at(chance.random()) for one in ranges}
        if not _is_tried(values, trials):
            return values
    return _first_untried(ranges, trials) or values


def bayesian(
    ranges: Sequence[Range], trials: Sequence[Trial], *, seed: int, number: int, maximize: bool
) -> dict[str, str]:
    """Where the jobs so far promise the most, by Optuna's tree-structured Parzen estimator.

    A job under way counts as a bad one, so that those that run beside it try something else.
    """
    shown = [trial for trial in trials if trial.objective is not None]
    if len(shown) < _AT_RANDOM:
        return at_random(ranges, trials, seed=seed, number=number)
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    categories = {
        one.name: optuna.distributions.CategoricalDistribution(one.values) for one in ranges if one.values
    }
    places = optuna.distributions.FloatDistribution(0.0, 1.0)
    distributions: dict[str, optuna.distributions.BaseDistribution] = {
        one.name: categories.get(one.name, places) for one in ranges
    }
    chance = random.Random(f"{seed}/{number}")
    sampler = optuna.samplers.TPESampler(
        seed=chance.getrandbits(32), n_startup_trials=_AT_RANDOM, constant_liar=True
    )
    study = optuna.create_study(sampler=sampler, direction="maximize" if maximize else "minimize")
    by_name = {one.name: one for one in ranges}
    for trial in trials:
        if trial.objective is None and not trial.is_under_way:
            continue
        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.RUNNING
                if trial.is_under_way
                else optuna.trial.TrialState.COMPLETE,
                value=trial.objective,
                params={
                    name: value if name in categories else by_name[name].place(value)
                    for name, value in trial.values.items()
                },
                distributions=distributions,
            )
        )
    for _ in range(_AT_RANDOM):
        asked = study.ask(distributions).params
        values = {one.name: asked[one.name] if one.values else one.at(asked[one.name]) for one in ranges}
        if not _is_tried(values, trials):
            return values
    return at_random(ranges, trials, seed=seed, number=number)


def is_hopeless(values: Sequence[float], earlier: Sequence[Sequence[float]], *, maximize: bool) -> bool:
    """Whether AWS's early stopping ends a training job that has printed these values of the objective.

    It does where the last is worse than the median of what the jobs before had on average until then.
    https://docs.aws.amazon.com/sagemaker/latest/dg/automatic-model-tuning-early-stopping.html
    """
    if not values or not any(earlier):
        return False
    averages = [statistics.fmean(one[: len(values)]) for one in earlier if one]
    median = statistics.median(averages)
    return values[-1] < median if maximize else values[-1] > median


def has_bayesian() -> bool:
    """Whether what the search needs is installed."""
    return importlib.util.find_spec("optuna") is not None


def _is_tried(values: Values, trials: Sequence[Trial]) -> bool:
    return any(trial.values == values for trial in trials)


def _first_untried(ranges: Sequence[Range], trials: Sequence[Trial]) -> dict[str, str] | None:
    """Where chance finds none: few are left of a small space."""
    if combinations(ranges) == math.inf:
        return None
    choices = [
        one.values or tuple(str(value) for value in range(int(one.low), int(one.high) + 1)) for one in ranges
    ]
    for chosen in itertools.product(*choices):
        values = {one.name: value for one, value in zip(ranges, chosen, strict=True)}
        if not _is_tried(values, trials):
            return values
    return None
