"""Which hyperparameters come next: scales, no repetition, the same again from the same seed, and learning."""

import itertools
import statistics

import pytest

from stagegate.local.sagemaker.tuning_search import Range, Trial, at_random, bayesian, grid, is_hopeless

SPACE = (
    Range(name="x", low=-10.0, high=10.0),
    Range(name="depth", low=1, high=9, is_integer=True),
    Range(name="kind", values=("a", "b", "c")),
)


def loss(values):
    """Least at x = 3, depth = 6, kind = b."""
    return (float(values["x"]) - 3) ** 2 + (int(values["depth"]) - 6) ** 2 + (values["kind"] != "b")


def searched(strategy, *, jobs, seed, side_by_side=1):
    """The trials of a whole search, so many at a time."""
    trials = []
    for number in range(jobs):
        values = strategy(trials, seed=seed, number=number)
        trials.append(Trial(values=values, is_under_way=True))
        if len([trial for trial in trials if trial.is_under_way]) == side_by_side:
            trials = [Trial(values=trial.values, objective=loss(trial.values)) for trial in trials]
    return trials


def random_search(trials, *, seed, number):
    return at_random(SPACE, trials, seed=seed, number=number)


def bayesian_search(trials, *, seed, number):
    return bayesian(SPACE, trials, seed=seed, number=number, maximize=False)


@pytest.mark.parametrize(
    ("scaling", "low", "high", "median"),
    [
        ("Linear", 0.0, 1.0, 0.5),
        ("Logarithmic", 0.0001, 1.0, 0.01),
        ("ReverseLogarithmic", 0.0, 0.9999, 0.99),
    ],
)
def test_a_scale_decides_where_half_of_the_values_lie(scaling, low, high, median):
    given = Range(name="rate", low=low, high=high, scaling=scaling)

    values = [float(at_random([given], [], seed=1, number=number)["rate"]) for number in range(2_000)]

    assert all(low <= value <= high for value in values)
    assert statistics.mean(value < median for value in values) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("scaling", ["Linear", "Logarithmic", "Auto"])
@pytest.mark.parametrize("is_integer", [True, False])
def test_a_value_leads_back_to_its_place(scaling, is_integer):
    given = Range(name="size", low=1, high=5_000, is_integer=is_integer, scaling=scaling)

    for step in range(101):
        value = given.at(step / 100)
        assert float(given.at(given.place(value))) == pytest.approx(float(value))
    assert (float(given.at(0.0)), float(given.at(1.0))) == (1, 5_000)


def test_whole_numbers_come_equally_often():
    given = Range(name="depth", low=1, high=4, is_integer=True)

    values = [at_random([given], [], seed=1, number=number)["depth"] for number in range(4_000)]

    assert {value: values.count(value) / 1_000 for value in "1234"} == pytest.approx(
        dict.fromkeys("1234", 1.0), abs=0.1
    )


def test_a_small_space_is_tried_without_repetition():
    space = SPACE[1:]
    trials = []
    for number in range(27):
        trials.append(Trial(values=at_random(space, trials, seed=3, number=number), objective=0.0))

    assert len({tuple(trial.values.values()) for trial in trials}) == 27


def test_a_grid_is_every_combination_in_order():
    space = [Range(name="a", values=("1", "2")), Range(name="b", values=("x", "y", "z"))]

    tried = [tuple(grid(space, number).values()) for number in range(6)]

    assert tried == list(itertools.product("12", "xyz"))


@pytest.mark.parametrize("strategy", [random_search, bayesian_search])
def test_the_same_seed_searches_the_same_places_and_another_does_not(strategy):
    first, again, other = (searched(strategy, jobs=12, seed=seed, side_by_side=3) for seed in (5, 5, 6))

    assert first == again
    assert first != other


def test_a_bayesian_search_finds_more_than_chance_with_as_many_jobs():
    found = {
        strategy.__name__: [
            min(loss(trial.values) for trial in searched(strategy, jobs=25, seed=seed)) for seed in range(5)
        ]
        for strategy in (random_search, bayesian_search)
    }

    by_chance, learned = found["random_search"], found["bayesian_search"]
    assert statistics.mean(learned) < statistics.mean(by_chance), found
    assert sum(better <= worse for better, worse in zip(learned, by_chance, strict=True)) >= 4, found


def test_a_bayesian_search_maximizes_too():
    trials = []
    for number in range(25):
        values = bayesian(SPACE[:1], trials, seed=2, number=number, maximize=True)
        trials.append(Trial(values=values, objective=-((float(values["x"]) - 3) ** 2)))

    assert max(trial.objective for trial in trials) > -0.1


def test_jobs_that_run_side_by_side_try_different_places():
    shown = searched(bayesian_search, jobs=10, seed=1)

    trials = [*shown]
    for number in range(10, 14):
        trials.append(Trial(values=bayesian_search(trials, seed=1, number=number), is_under_way=True))

    assert len({tuple(trial.values.items()) for trial in trials[10:]}) == 4


@pytest.mark.parametrize(
    ("values", "maximize", "hopeless"),
    [
        ([], False, False),
        ([4.0], False, False),  # the averages after one epoch: 9, 4, 1
        ([4.1], False, True),
        ([9.0, 3.6], False, True),  # after two: 8.5, 3.5, 1
        ([9.0, 3.4], False, False),
        ([9.0, 9.0, 3.0], False, False),  # after three; one has printed two epochs only
        ([3.9], True, True),
        ([4.0], True, False),
    ],
)
def test_a_job_worse_than_the_median_of_the_averages_before_is_hopeless(values, maximize, hopeless):
    earlier = [[9.0, 8.0, 7.0], [4.0, 3.0, 2.0], [1.0, 1.0], []]

    assert is_hopeless(values, earlier, maximize=maximize) is hopeless
    assert is_hopeless(values, [], maximize=maximize) is False
