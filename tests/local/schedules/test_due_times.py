"""When a schedule calls its target."""

from datetime import timedelta

from tests.local.schedules.conftest import OFF, QUEUE, ROLE, START, Scheduler


async def test_a_one_time_schedule_fires_once_by_its_zones_clock(scheduler: Scheduler) -> None:
    await scheduler.create("it", "at(2026-11-23T12:00:00)", ScheduleExpressionTimezone="Europe/Berlin")

    await scheduler.put_forward(minutes=89)
    before = await scheduler.messages()
    await scheduler.put_forward(days=400)

    assert before == []
    assert await scheduler.messages() == ["due 2026-11-23T11:00:00Z"]
    assert await scheduler.names() == ["it"]


async def test_a_schedule_goes_after_its_completion_where_it_says_so(scheduler: Scheduler) -> None:
    end = START + timedelta(hours=2)
    await scheduler.create("once", "at(2026-11-23T10:00:00)", ActionAfterCompletion="DELETE")
    await scheduler.create("hourly", "rate(1 hour)", EndDate=end, ActionAfterCompletion="DELETE")

    await scheduler.put_forward(hours=1)
    between = await scheduler.names()
    await scheduler.put_forward(hours=1)

    assert between == ["hourly"]
    assert await scheduler.names() == []
    assert len(await scheduler.messages()) == 4


async def test_a_rate_without_a_start_is_due_at_once(scheduler: Scheduler) -> None:
    await scheduler.create("it", "rate(5 minutes)")

    at_once = await scheduler.messages()
    await scheduler.put_forward(minutes=11)

    assert at_once == ["due 2026-11-23T09:30:00Z"]
    assert await scheduler.messages() == ["due 2026-11-23T09:35:00Z", "due 2026-11-23T09:40:00Z"]


async def test_start_and_end_bound_a_recurring_schedule(scheduler: Scheduler) -> None:
    bounds = {"StartDate": START + timedelta(hours=3), "EndDate": START + timedelta(hours=5)}
    await scheduler.create("rate", "rate(1 hour)", **bounds)
    await scheduler.create("cron", "cron(0 * * * ? *)", **bounds)

    await scheduler.put_forward(days=1)

    assert await scheduler.messages() == [
        "due 2026-11-23T12:30:00Z",
        "due 2026-11-23T13:00:00Z",
        "due 2026-11-23T13:30:00Z",
        "due 2026-11-23T14:00:00Z",
        "due 2026-11-23T14:30:00Z",
    ]


async def test_a_flexible_window_calls_within_it_and_says_when_it_was_due(scheduler: Scheduler) -> None:
    window = {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 30}
    for number in range(10):
        await scheduler.create(f"it{number}", "at(2026-11-23T10:00:00)", FlexibleTimeWindow=window)
    fires = sorted(moment for moment, _ in scheduler.clock.waiting)

    await scheduler.put_forward(hours=1)

    assert len(set(fires)) == 10
    assert START + timedelta(minutes=30) <= fires[0] <= fires[-1] <= START + timedelta(minutes=60)
    assert await scheduler.messages() == ["due 2026-11-23T10:00:00Z"] * 10


async def test_a_disabled_schedule_is_silent_until_it_is_enabled(scheduler: Scheduler) -> None:
    await scheduler.create("it", "cron(0 * * * ? *)", State="DISABLED")
    await scheduler.put_forward(hours=2)
    silent = await scheduler.messages()

    target = {"Arn": QUEUE, "RoleArn": ROLE, "Input": "again"}
    await scheduler(
        "UpdateSchedule",
        Name="it",
        ScheduleExpression="cron(0 * * * ? *)",
        Target=target,
        FlexibleTimeWindow=OFF,
    )
    await scheduler.put_forward(hours=1)

    assert silent == []
    assert await scheduler.messages() == ["again"]


async def test_an_update_of_something_else_leaves_the_due_times(scheduler: Scheduler) -> None:
    await scheduler.create("it", "rate(1 hour)")
    await scheduler.put_forward(minutes=10)
    await scheduler.messages()

    target = {"Arn": QUEUE, "RoleArn": ROLE, "Input": "new <aws.scheduler.scheduled-time>"}
    await scheduler(
        "UpdateSchedule",
        Name="it",
        ScheduleExpression="rate(1 hour)",
        Target=target,
        FlexibleTimeWindow=OFF,
    )
    await scheduler.put_forward(hours=1)

    assert await scheduler.messages() == ["new 2026-11-23T10:30:00Z"]


async def test_a_deleted_schedule_and_one_of_a_deleted_group_are_silent(scheduler: Scheduler) -> None:
    await scheduler("CreateScheduleGroup", Name="models")
    await scheduler.create("one", "cron(0 * * * ? *)")
    await scheduler.create("two", "cron(0 * * * ? *)", GroupName="models")

    await scheduler("DeleteSchedule", Name="one")
    await scheduler("DeleteScheduleGroup", Name="models")
    await scheduler.put_forward(hours=3)

    assert await scheduler.messages() == []


async def test_after_a_sleep_of_the_machine_the_times_slept_through_are_left_out(
    scheduler: Scheduler,
) -> None:
    await scheduler.create("it", "rate(1 minute)")
    await scheduler.messages()

    scheduler.clock.moment += timedelta(hours=8)
    await scheduler.put_forward(minutes=1)

    assert await scheduler.messages() == [
        "due 2026-11-23T09:31:00Z",
        "due 2026-11-23T17:29:00Z",
        "due 2026-11-23T17:30:00Z",
        "due 2026-11-23T17:31:00Z",
    ]
