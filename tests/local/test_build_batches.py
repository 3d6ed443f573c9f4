"""Batch builds: lists, graphs and matrices of builds, how they end, and what a restart leaves of them."""

import time

import pytest

from tests.local.build_runs import PATIENCE, ROLE, Builds

CONFIG = {"serviceRole": ROLE}


class Batches(Builds):
    """Batch builds of what a buildspec says."""

    def start_batch(self, batch, *commands, **members):
        batch = self.client.start_build_batch(
            projectName="project",
            buildspecOverride=self.text(batch, *commands),
            buildBatchConfigOverride={**CONFIG, **members.pop("config", {})},
            **members,
        )["buildBatch"]
        return batch["id"]

    def text(self, batch, *commands):
        return self.written(
            {"version": 0.2, "batch": batch, "phases": {"build": {"commands": list(commands)}}}
        )

    def batch(self, batch_id):
        return self.client.batch_get_build_batches(ids=[batch_id])["buildBatches"][0]

    def batch_ended(self, batch_id):
        deadline = time.monotonic() + PATIENCE
        while not (batch := self.batch(batch_id))["complete"]:
            assert time.monotonic() < deadline, batch
            time.sleep(0.05)
        return batch

    def run(self, batch, *commands, **members):
        return self.batch_ended(self.start_batch(batch, *commands, **members))

    def build_of(self, batch, identifier):
        (group,) = [group for group in batch["buildGroups"] if group["identifier"] == identifier]
        return self.describe(group["currentBuildSummary"]["arn"].partition("build/")[2])


def ends(batch):
    return {
        group["identifier"]: group.get("currentBuildSummary", {}).get("buildStatus")
        for group in batch["buildGroups"]
    }


@pytest.fixture(scope="module")
def batches(shared_local):
    return Batches(shared_local)


def task(identifier, *, depends=(), fails=False, **members):
    variables = {"FAILS": "yes"} if fails else {}
    needs = {"depend-on": list(depends)} if depends else {}
    return {"identifier": identifier, "env": {"variables": variables}, **needs, **members}


FAIL_WHERE_SAID = '[ -z "$FAILS" ]'


def test_a_build_list_runs_each_with_its_own_settings(batches):
    batch = batches.run(
        {
            "build-list": [
                {"identifier": "one", "env": {"variables": {"WORD": "first"}, "image": "other"}},
                {"identifier": "two", "buildspec": "version: 0.2\nphases: {build: {commands: [echo own]}}"},
            ]
        },
        "echo $CODEBUILD_BATCH_BUILD_IDENTIFIER $WORD $CODEBUILD_BUILD_IMAGE $GIVEN",
        environmentVariablesOverride=[{"name": "GIVEN", "value": "given"}],
    )

    assert batch["buildBatchStatus"] == "SUCCEEDED", batch
    one, two = batches.build_of(batch, "one"), batches.build_of(batch, "two")
    assert batches.log(one) == ["one first other given"]
    assert batches.log(two) == ["own"]
    assert one["buildBatchArn"] == batch["arn"]
    assert [(phase["phaseType"], phase["phaseStatus"]) for phase in batch["phases"]] == [
        ("SUBMITTED", "SUCCEEDED"),
        ("DOWNLOAD_BATCHSPEC", "SUCCEEDED"),
        ("IN_PROGRESS", "SUCCEEDED"),
        ("SUCCEEDED", "SUCCEEDED"),
    ]


def test_a_build_graph_runs_in_the_order_that_its_tasks_depend_on(batches):
    batch = batches.run(
        {"build-graph": [task("c", depends=["a", "b"]), task("b", depends=["a"]), task("a")]}, "true"
    )

    assert ends(batch) == dict.fromkeys("cba", "SUCCEEDED")
    a, b, c = (batches.build_of(batch, name) for name in "abc")
    assert a["endTime"] <= b["startTime"]
    assert b["endTime"] <= c["startTime"]


def test_a_build_matrix_has_a_build_for_each_combination(batches):
    batch = batches.run(
        {
            "build-matrix": {
                "static": {"ignore-failure": False, "env": {"privileged-mode": True}},
                "dynamic": {"env": {"image": ["x", "y"], "variables": {"WORD": ["1", "2", "3"]}}},
            }
        },
        "echo $CODEBUILD_BUILD_IMAGE$WORD",
    )

    builds = [batches.build_of(batch, group["identifier"]) for group in batch["buildGroups"]]
    assert [batches.log(build) for build in builds] == [
        [f"{image}{word}"] for image in "xy" for word in "123"
    ]
    assert all(build["environment"]["privilegedMode"] for build in builds)


def test_a_failure_fails_the_batch_and_what_depends_on_it_does_not_run(batches):
    batch = batches.run(
        {"build-graph": [task("bad", fails=True), task("after", depends=["bad"]), task("beside")]},
        FAIL_WHERE_SAID,
    )

    assert batch["buildBatchStatus"] == "FAILED"
    assert ends(batch) == {"bad": "FAILED", "after": None, "beside": "SUCCEEDED"}


def test_a_failure_that_is_ignored_fails_nothing(batches):
    batch = batches.run(
        {
            "build-graph": [
                task("bad", fails=True, **{"ignore-failure": True}),
                task("after", depends=["bad"]),
            ]
        },
        FAIL_WHERE_SAID,
    )

    assert batch["buildBatchStatus"] == "SUCCEEDED"
    assert ends(batch) == {"bad": "FAILED", "after": "SUCCEEDED"}


def test_fast_fail_stops_the_others(batches):
    batch = batches.run(
        {"fast-fail": True, "build-list": [task("long"), task("bad", fails=True)]},
        f"{FAIL_WHERE_SAID} && sleep 600",
    )

    assert batch["buildBatchStatus"] == "FAILED"
    assert ends(batch) == {"long": "STOPPED", "bad": "FAILED"}


def test_a_batch_is_stopped_and_built_again_where_it_failed(batches, tmp_path):
    wait = f'[ -e {tmp_path}/go ] || [ "$CODEBUILD_BATCH_BUILD_IDENTIFIER" = quick ] || sleep 600'
    batch_id = batches.start_batch(
        {"build-graph": [task("quick"), task("slow", depends=["quick"])]}, "echo begun", wait
    )
    deadline = time.monotonic() + PATIENCE
    while ends({"buildGroups": [], **batches.batch(batch_id)}).get("slow") is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    batches.until_logged(batches.build_of(batches.batch(batch_id), "slow")["id"], "begun")

    batches.client.stop_build_batch(id=batch_id)

    stopped = batches.batch_ended(batch_id)
    assert stopped["buildBatchStatus"] == "STOPPED"
    assert ends(stopped) == {"quick": "SUCCEEDED", "slow": "STOPPED"}

    (tmp_path / "go").touch()
    batches.client.retry_build_batch(id=batch_id, retryType="RETRY_FAILED_BUILDS")

    again = batches.batch_ended(batch_id)
    assert ends(again) == {"quick": "SUCCEEDED", "slow": "SUCCEEDED"}
    quick, slow = again["buildGroups"]
    assert "priorBuildSummaryList" not in quick
    assert [summary["buildStatus"] for summary in slow["priorBuildSummaryList"]] == ["STOPPED"]
    with pytest.raises(batches.client.exceptions.InvalidInputException):
        batches.client.retry_build_batch(id=batch_id)


def test_a_batch_goes_on_after_a_restart(local, tmp_path):
    batches = Batches(local)
    wait = f'[ "$CODEBUILD_BATCH_BUILD_IDENTIFIER" = quick ] || [ -e {tmp_path}/go ] || sleep 600'
    batch_id = batches.start_batch(
        {"build-graph": [task("quick"), task("slow", depends=["quick"])]}, "echo begun", wait
    )
    deadline = time.monotonic() + PATIENCE
    while ends({"buildGroups": [], **batches.batch(batch_id)}).get("slow") is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    before = {name: batches.build_of(batches.batch(batch_id), name)["id"] for name in ("quick", "slow")}

    local.kill()
    (tmp_path / "go").touch()
    local.start()

    batch = batches.batch_ended(batch_id)
    assert ends(batch) == {"quick": "SUCCEEDED", "slow": "SUCCEEDED"}
    assert {name: batches.build_of(batch, name)["id"] for name in before} == before


def test_batches_are_listed_and_deleted_with_their_builds(batches):
    first = batches.run({"build-list": [task("a")]}, "true")
    second = batches.run({"build-list": [task("a", fails=True)]}, FAIL_WHERE_SAID)
    client = batches.client

    assert client.list_build_batches_for_project(projectName="project")["ids"][:2] == [
        second["id"],
        first["id"],
    ]
    assert second["id"] not in client.list_build_batches(filter={"status": "SUCCEEDED"})["ids"]
    build = batches.build_of(first, "a")
    assert client.delete_build_batch(id=first["id"])["buildsDeleted"] == [build["arn"]]
    assert client.batch_get_build_batches(ids=[first["id"]])["buildBatchesNotFound"] == [first["id"]]


@pytest.mark.parametrize(
    ("batch", "config", "said"),
    [
        (None, {}, "batch is missing"),
        ({"build-list": [task("a")], "build-graph": [task("b")]}, {}, "batch should have one of"),
        ({"build-list": [task("a", depends=["b"])]}, {}, "depend-on is not supported"),
        ({"build-graph": [task("a", depends=["b"])]}, {}, "a depends on b, which is not there"),
        (
            {"build-graph": [task("a", depends=["b"]), task("b", depends=["a"])]},
            {},
            "a, b depend on each other",
        ),
        ({"build-list": [task("a"), task("a")]}, {}, "the identifier a is there twice"),
        (
            {"build-list": [task("a"), task("b")]},
            {"restrictions": {"maximumBuildsAllowed": 1}},
            "The batch has 2 builds, where 1 are allowed",
        ),
        (
            {"build-list": [task("a")]},
            {"restrictions": {"computeTypesAllowed": ["BUILD_GENERAL1_LARGE"]}},
            "The compute type BUILD_GENERAL1_SMALL of a is not allowed",
        ),
    ],
)
def test_a_batch_that_cannot_run_says_why(batches, batch, config, said):
    ended = batches.run(batch, "true", config=config)

    assert ended["buildBatchStatus"] == "FAILED"
    assert said in ended["phases"][1]["contexts"][0]["message"]


def test_what_a_batch_needs_or_does_not_do_is_refused(batches):
    client = batches.client

    with pytest.raises(client.exceptions.InvalidInputException, match="serviceRole"):
        client.start_build_batch(projectName="project")
    with pytest.raises(client.exceptions.InvalidInputException, match="combineArtifacts"):
        batches.start_batch({"build-list": [task("a")]}, "true", config={"combineArtifacts": True})
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.stop_build_batch(id="project:absent")
