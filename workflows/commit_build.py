"""The build of a commit in CodeBuild (deploy/buildspec-build.yml), and what is told of one that fails."""

from stepfunctions.steps import ChoiceRule, Pass, Task

from workflows.config import BUILD_SECONDS, Config
from workflows.language import Failing, call_aws, caught_in, chosen, jsonata, merged, with_fields
from workflows.locks import THIS_RUN, Step

FOLDER = "'ci/' & $states.context.Execution.Name"
"""Where the build leaves what it has made, in the assets bucket."""
WHAT_FAILED = """(
  $failure := $states.input.Failure;
  $told := $substring($failure.Cause, 0, 1) = '{' ? $parse($failure.Cause) : {};
  $build := $exists($told.Build) ? $told.Build : $told;
  $messages := $build.Phases[PhaseStatus != 'SUCCEEDED'].Contexts[Message != ''].Message;
  {
    'Build': $exists($build.Id) ? 'Build: ' & $build.Id : 'There was no build.',
    'Reports': [$build.ReportArns],
    'Message': $exists($messages) ? $messages[0] : $failure.Error & ': ' & $failure.Cause
  }
)"""
"""What CodeBuild says of a build that failed, or of one that it did not begin."""
FAILED_TESTS = """[$map($states.result.TestCases, function($test) {
  $test.Prefix & '::' & $test.Name & ': ' & $substring($test.Message, 0, 300)
})]"""
BUILD_TOLD = """(
  $failed := $states.input.FailedBuild;
  $join([
    'Commit ' & $states.input.Commit & ' by ' & $states.input.Run.StartedBy & ' did not pass.',
    $count($failed.Tests) > 0 ? 'Tests that failed:' : [],
    $failed.Tests,
    $failed.Message,
    $failed.Build,
    'Nothing was changed and nothing was started.'
  ], '\\n')
)"""


def build(config: Config, *, then: Step, fails: Failing) -> Task:
    """Run deploy/buildspec-build.yml at the commit; what it made comes to `$.Release`."""
    environment = {"COMMIT": "{% $states.input.Commit %}", "BASE_COMMIT": "{% $states.input.Finished %}"}
    step = call_aws(
        "Build",
        "codebuild:startBuild.sync",
        {
            "ProjectName": config.build_project,
            "SourceVersion": "{% $states.input.Commit %}",
            # The same when it is asked again: an answer that got lost leaves no second build.
            "IdempotencyToken": f"{{% {THIS_RUN} %}}",
            "ArtifactsOverride": {
                "Type": "S3",
                "Location": config.assets_bucket,
                "Path": f"{{% {FOLDER} %}}",
                "Name": "build",
                "NamespaceType": "NONE",
                "Packaging": "NONE",
            },
            "EnvironmentVariablesOverride": [
                {"Name": name, "Value": value, "Type": "PLAINTEXT"} for name, value in environment.items()
            ],
        },
        output="{% $states.input %}",
    )
    with_fields(step, timeout_seconds=BUILD_SECONDS)
    read = call_aws(
        "ReadRelease",
        "aws-sdk:s3:getObject",
        {"Bucket": config.assets_bucket, "Key": f"{{% {FOLDER} & '/build/release.json' %}}"},
        output=merged("Release", "$parse($states.result.Body)"),
    )
    read.add_catch(
        caught_in(
            fails(
                "ReleaseUnreadable",
                error="BuildFailed",
                cause="The build of commit {} left no readable release.json: {}: {} Nothing was changed.",
                paths=("$.Commit", "$.Failure.Error", "$.Failure.Cause"),
            )
        )
    )
    step.add_catch(caught_in(explain(fails)))
    step.next(read)
    read.next(then)
    return step


def explain(fails: Failing) -> Pass:
    """Which tests failed, or else which command."""
    failed = jsonata(Pass("FailedBuild"), output=merged("FailedBuild", WHAT_FAILED))
    tests = call_aws(
        "ReadFailedTests",
        "aws-sdk:codebuild:describeTestCases",
        {
            "ReportArn": "{% $states.input.FailedBuild.Reports[0] %}",
            "Filter": {"Status": "FAILED"},
            "MaxResults": 20,
        },
        output=merged("FailedBuild", f"$merge([$states.input.FailedBuild, {{'Tests': {FAILED_TESTS}}}])"),
    )
    text = jsonata(Pass("TellFailure"), output=merged("FailedText", BUILD_TOLD))
    text.next(fails("BuildFailed", error="BuildFailed", cause="{}", paths=("$.FailedText",)))
    tests.add_catch(caught_in(text))  # the report may be missing: the command is told of then
    tests.next(text)
    failed.next(
        chosen("HasReport", [(ChoiceRule.IsPresent("$.FailedBuild.Reports[0]", True), tests)], default=text)
    )
    return failed
