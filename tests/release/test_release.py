"""The main job, whole: from a zip of pictures to the production endpoint, with a crash on the way."""

import json
import re
import urllib.request
import zipfile

import pytest

from stagegate import pipeline
from stagegate.inbox import approve_by_link
from tests.release.permissions import ELSEWHERE, UNUSED

TRAINS = True
SMALL = (
    *("--hyperparameter", "epochs=1"),
    *("--preprocess", "image-size=32"),
)


@pytest.fixture(scope="module")
def released(installation, scenes):
    """A release that has reached production; what happened in its two executions."""
    build = installation.start_run(scenes, *SMALL, "--threshold", "0")
    building = installation.follow_until_asked(build)
    (first_mail,) = installation.approval_mails(1)

    installation.kill()
    installation.start()
    approve_by_link(first_mail, comment="as expected")
    built = installation.follow(build)

    def deploying():
        runs = pipeline.list_runs(installation.services, installation.platform)
        return [run.arn for run in runs if run.state_machine == "stagegate-model-deploy"]

    (deploy,) = installation.wait_for(deploying)
    installation.follow_until_asked(deploy)
    installation.approval_mails(2)
    (waiting,) = json.loads(installation.stagegate("approvals", "--json").stdout)
    installation.stagegate("approve", waiting["approval_id"], "--comment", "staging is fine")
    deployed = installation.follow(deploy)
    return {"build": build, "building": building, "built": built, "deploy": deploy, "deployed": deployed}


def ended(progress):
    return progress[-1].status, progress[-1].error, progress[-1].cause


def test_a_mailed_link_still_approves_after_a_crash_and_the_run_goes_on_to_production(released):
    assert ended(released["built"]) == ("SUCCEEDED", "", "")
    assert ended(released["deployed"]) == ("SUCCEEDED", "", "")


def test_the_deployment_is_started_with_what_was_approved(installation, released):
    described = installation.services("stepfunctions").describe_execution(executionArn=released["deploy"])
    (model,) = json.loads(installation.stagegate("models", "--json").stdout)

    given = json.loads(described["input"])
    assert re.fullmatch(r"[0-9a-f-]{36}", given.pop("EventId"))
    assert given == {"ModelPackageArn": model["arn"], "RemoveStaging": False, "Trigger": "approved model"}


def test_the_mail_leads_to_the_report_of_the_tests_and_says_what_would_change(installation, released):
    mail = installation.approval_mails(2)[-1]
    (link,) = re.findall(r"\S+decision=tests\S+", mail.text)

    with urllib.request.urlopen(link, timeout=30) as response:
        page = response.read().decode()

    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "<title>Endpoint tests, staging</title>" in page
    assert "Changes:        added: Model, ServerErrors, Latency, ModelErrors, EndpointConfig" in mail.text


def test_nothing_that_had_passed_before_the_crash_ran_again(released):
    before = [progress for progress in released["building"] if isinstance(progress, pipeline.StateExited)]
    after = [progress for progress in released["built"] if isinstance(progress, pipeline.StateExited)]

    assert after[: len(before)] == before


def test_the_model_is_registered_with_its_decision_and_where_it_comes_from(installation, released):
    (model,) = json.loads(installation.stagegate("models", "--json").stdout)

    assert model["version"] == 1
    assert model["approval_status"] == "Approved"
    description = model["approval_description"]
    assert "approver@example.com" in description and "as expected" in description
    assert released["build"].endswith(model["run_id"])


def test_staging_and_production_serve_the_very_package_that_was_approved(installation, released):
    (model,) = json.loads(installation.stagegate("models", "--json").stdout)
    endpoints = json.loads(installation.stagegate("endpoints", "--json").stdout)

    assert [
        (endpoint["stage"], endpoint["status"], endpoint["model_package_arn"]) for endpoint in endpoints
    ] == [
        ("staging", "InService", model["arn"]),
        ("production", "InService", model["arn"]),
    ]


def test_production_leads_back_to_the_jobs_and_the_data_that_made_it(installation, released, scenes):
    sagemaker = installation.services("sagemaker")
    contexts = sagemaker.list_contexts(ContextType="Endpoint")["ContextSummaries"]
    (production,) = (context for context in contexts if "production" in context["ContextName"])
    reached = sagemaker.query_lineage(StartArns=[production["ContextArn"]], Direction="Ascendants")[
        "Vertices"
    ]

    jobs = {vertex["Type"] for vertex in reached if vertex["LineageType"] == "TrialComponent"}
    assert jobs == {"TrainingJob", "ProcessingJob"}
    artifacts = [
        sagemaker.describe_artifact(ArtifactArn=vertex["Arn"])
        for vertex in reached
        if vertex["Type"] == "DataSet"
    ]
    uris = [artifact["Source"]["SourceUri"] for artifact in artifacts]
    assert any(uri.endswith(scenes.name) for uri in uris), uris


def test_production_classifies_an_image(installation, released, scenes, tmp_path):
    with zipfile.ZipFile(scenes) as archive:
        name = next(name for name in archive.namelist() if "seg_test/sea/" in name and name.endswith(".jpg"))
        (tmp_path / "sea.jpg").write_bytes(archive.read(name))

    (prediction,) = json.loads(
        installation.stagegate("invoke", "production", str(tmp_path / "sea.jpg"), "--json").stdout
    )

    classes = ["buildings", "forest", "glacier", "mountain", "sea", "street"]
    assert sorted(prediction["probabilities"]) == classes
    assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert prediction["predicted"] == max(prediction["probabilities"], key=prediction["probabilities"].get)


def test_the_runs_are_listed(installation, released):
    runs = json.loads(installation.stagegate("runs", "--json").stdout)

    assert {(run["arn"], run["status"]) for run in runs} >= {
        (released["build"], "SUCCEEDED"),
        (released["deploy"], "SUCCEEDED"),
    }


def test_a_model_below_the_threshold_ends_the_run_and_is_not_registered(installation, released, scenes):
    models = installation.stagegate("models", "--json").stdout
    run = installation.start_run(scenes, *SMALL, "--threshold", "0.999")

    progress = installation.follow(run)

    status, error, cause = ended(progress)
    evaluation = installation.services("s3").get_object(
        Bucket=installation.platform.data_bucket,
        Key=f"runs/{released['build'].rsplit(':', 1)[-1]}/evaluation/evaluation.json",
    )
    accuracy = json.loads(evaluation["Body"].read())["multiclass_classification_metrics"]["accuracy"]["value"]
    assert (status, error) == ("FAILED", "AccuracyBelowThreshold")
    assert f"The accuracy {accuracy} " in cause and "below the threshold 0.999" in cause
    assert installation.stagegate("models", "--json").stdout == models
    # The same code, data and parameters as those that were released: the gate is all that is new.
    started = [step for step in progress if isinstance(step, pipeline.TaskStarted) and step.job_name]
    assert started == []


def test_watching_a_failed_run_exits_with_1(installation, released, scenes):
    done = installation.stagegate(
        "run", str(scenes), "--watch", "--hyperparameter", "arch=no_such_model", check=False
    )

    assert done.returncode == 1
    assert "TrainingFailed" in done.stdout
    assert "no_such_model" in done.stdout


def test_the_aws_command_line_client_reads_the_release(installation, released, scenes, tmp_path):
    aws, run_id = installation.aws, released["build"].rsplit(":", 1)[-1]
    machine = installation.platform.model_build_arn

    executions = aws("stepfunctions", "list-executions", "--state-machine-arn", machine)["executions"]
    assert released["build"] in [execution["executionArn"] for execution in executions]

    jobs = aws("sagemaker", "list-training-jobs", "--name-contains", run_id)["TrainingJobSummaries"]
    job = aws("sagemaker", "describe-training-job", "--training-job-name", jobs[0]["TrainingJobName"])
    assert job["TrainingJobStatus"] == "Completed"

    group = installation.platform.model_package_group
    packages = aws("sagemaker", "list-model-packages", "--model-package-group-name", group)
    assert [package["ModelApprovalStatus"] for package in packages["ModelPackageSummaryList"]] == ["Approved"]

    with zipfile.ZipFile(scenes) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".jpg"))
        (tmp_path / "image.jpg").write_bytes(archive.read(name))
    answer = aws(
        *("sagemaker-runtime", "invoke-endpoint", "--endpoint-name", "stagegate-production"),
        *(
            "--content-type",
            "image/jpeg",
            "--body",
            f"fileb://{tmp_path / 'image.jpg'}",
            str(tmp_path / "out.json"),
        ),
    )
    assert answer["InvokedProductionVariant"]
    assert "predictions" in json.loads((tmp_path / "out.json").read_text())

    (stack,) = aws("cloudformation", "describe-stacks", "--stack-name", "stagegate-production")["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"

    rules = aws("events", "list-rules")["Rules"]
    assert "stagegate-model-approved" in [rule["Name"] for rule in rules]

    group = "/aws/sagemaker/TrainingJobs"
    streams = aws("logs", "describe-log-streams", "--log-group-name", group)["logStreams"]
    stream = next(stream["logStreamName"] for stream in streams if stream["logStreamName"].startswith(run_id))
    lines = aws("logs", "get-log-events", "--log-group-name", group, "--log-stream-name", stream)["events"]
    assert any(line["message"].startswith("epoch=1/1") for line in lines)


def test_each_role_may_do_what_it_does_and_little_else(installation, released):
    """The runtime has enforced the policies of deploy/platform.yaml all along; ci has run none of its own."""
    unexplained = [
        (role, what)
        for role, unused in installation.unused_permissions()
        for what in unused
        if role not in ELSEWHERE
        and not any(
            re.search(rf"(^|:){re.escape(known)}(-\w{{6}})?$", what) for known in UNUSED.get(role, ())
        )
    ]

    assert installation.refused() == []
    assert unexplained == []


def test_what_a_role_has_asked_for_is_shown_call_by_call(installation, released):
    shown = installation.stagegate("iam", "stagegate-events", "--calls").stdout
    unknown = installation.stagegate("iam", "stagegate-nobody", check=False)

    machine = installation.platform.model_deploy_arn
    assert f"✔ states:StartExecution on {machine}" in shown
    assert unknown.returncode == 1
    assert "There is no role 'stagegate-nobody'; there are: stagegate-approval-decision, " in unknown.stderr
