"""ci: a commit is built and tested, the platform is brought to it, and what it changed is released.

Two commits in a row: the newer waits until the model of the older is registered (QUEUED), or takes its place
(SUPERSEDED); see workflows/locks.py. What fails is mailed.
"""

from functools import partial

from stepfunctions.steps import Chain, ChoiceRule, Fail, Graph, Pass, Succeed, Task, Wait
from stepfunctions.steps.states import State

from workflows.commit_build import build
from workflows.config import Config
from workflows.language import (
    Failing,
    call_aws,
    caught,
    caught_in,
    chosen,
    concatenated,
    in_one_line,
    is_throttled,
    jsonata,
    merged,
    merged_all,
    throttled,
    with_fields,
)
from workflows.locks import (
    IS_ASKING,
    RUNNING,
    UPDATING,
    WAIT_SECONDS,
    Step,
    claim,
    finish,
    go_on,
    last_event,
    lock,
)
from workflows.platform_update import update_platform

EARLIER = """$count($states.result.Executions[
  ExecutionArn != $states.context.Execution.Id and
  $toMillis(StartDate) < $toMillis($states.context.Execution.StartTime)
])"""
RUN_ID = (
    "'c-' & $substring($states.input.Commit, 0, 12) & '-' & "
    "$substring($hash($states.context.Execution.Id, 'SHA-256'), 0, 6)"
)
"""The same one whenever it is asked for, so that a start that is tried again is one run."""


def ci(config: Config) -> Graph:
    """A commit becomes what the platform is, and a model that waits for approval or a deployment."""
    fails = partial(mailed, tell=tell(config))
    lost = Succeed("Superseded", comment="A newer commit has taken its place.")
    released = Succeed("Done")
    done = finish(config, then=outcome(fails, done=released), lost=lost, fails=fails)
    started = start(config, then=done, lost=lost, fails=fails)
    updated = update_platform(config, then=started, fails=fails)
    updating = go_on(config, "BeginUpdate", phase=UPDATING, then=updated, lost=lost, fails=fails)
    obsolete = ChoiceRule.BooleanEquals("$.Release.IsObsolete", True)
    newest = chosen("IsObsolete", [(obsolete, lost)], default=updating)
    built = build(config, then=newest, fails=fails)
    turn = my_turn(config, then=read_author(config, then=built, fails=fails), superseded=lost, fails=fails)
    event = "($exists($states.input.EventId) ? $states.input.EventId : $states.context.Execution.Name)"
    return Graph(
        claim(config, event=event, then=Chain([settings(config), turn])),
        comment="Build and test a commit, update the platform to it, start what it changed.",
    )


def settings(config: Config) -> State:
    """The input, which EventBridge makes of a commit's event, over the defaults."""
    defaults = "{'StartedBy': 'unknown', 'Trigger': 'unknown'}"
    return jsonata(
        Pass("Settings"),
        output=in_one_line(
            f"{{'Run': $merge([{defaults}, $states.context.Execution.Input]), "
            f"'PollSeconds': $number('{config.poll_seconds}'), 'Started': {{'Status': 'NONE'}}}}"
        ),
    )


def my_turn(config: Config, *, then: Step, superseded: State, fails: Failing) -> Task:
    """Go on to `then` once no other commit is in the way; to `superseded` where a newer one has come."""
    unread = source_unreadable(fails)
    head = call_aws(
        "ReadBranch",
        "aws-sdk:codecommit:getBranch",
        {"RepositoryName": config.repository, "BranchName": config.branch},
        output=merged_all(
            Head="$states.result.Branch.CommitId",
            Commit="$exists($states.input.Run.Commit) ? $states.input.Run.Commit : "
            "$states.result.Branch.CommitId",
            WaitSeconds=WAIT_SECONDS,
        ),
    )
    queue = call_aws(
        "ReadQueue",
        "aws-sdk:sfn:listExecutions",
        {
            "StateMachineArn": "{% $states.context.StateMachine.Id %}",
            "StatusFilter": "RUNNING",
            "MaxResults": 1000,
        },
        output=merged("Earlier", EARLIER),
    )
    for step in (head, queue):
        step.add_catch(caught_in(unread))
    wait = Wait("Waiting", seconds_path="$.WaitSeconds")
    wait.next(head)
    take = lock(config, waiting=wait, then=then, fails=fails)
    queue.next(chosen("IsMyTurn", [(ChoiceRule.NumericGreaterThan("$.Earlier", 0), wait)], default=take))
    mode = jsonata(
        Pass("ExecutionMode"),
        output=merged(
            "Next",
            f"'{config.execution_mode}' = 'QUEUED' ? 'queue' : "
            "$states.input.Commit = $states.input.Head ? 'lock' : 'superseded'",
        ),
    )
    head.next(mode)
    mode.next(
        chosen(
            "IsNewest",
            [
                (ChoiceRule.StringEquals("$.Next", "queue"), queue),
                (ChoiceRule.StringEquals("$.Next", "superseded"), superseded),
            ],
            default=take,
        )
    )
    return head


def read_author(config: Config, *, then: Step, fails: Failing) -> Task:
    """Who wrote the commit has started what comes of it, and may not approve it alone."""
    read = call_aws(
        "ReadCommit",
        "aws-sdk:codecommit:getCommit",
        {"RepositoryName": config.repository, "CommitId": "{% $states.input.Commit %}"},
        output=merged(
            "Run",
            "$merge([$states.input.Run, {'StartedBy': $states.result.Commit.Author.Email}])",
        ),
    )
    read.add_catch(caught_in(source_unreadable(fails, name="CommitUnreadable")))
    read.next(then)
    return read


def source_unreadable(fails: Failing, name: str = "SourceUnreadable") -> State:
    return fails(
        name,
        error="SourceUnreadable",
        cause="The commit could not be read: {}: {} Nothing was built.",
        paths=("$.Failure.Error", "$.Failure.Cause"),
    )


def start(config: Config, *, then: Step, lost: State, fails: Failing) -> State:
    """What the commit changed decides: model-build, model-deploy of what production serves, or neither."""
    unstarted = fails(
        "NotStarted",
        error="NotStarted",
        cause="The platform is at commit {}, but its release could not be started: {}: {}",
        paths=("$.Commit", "$.Failure.Error", "$.Failure.Cause"),
    )
    common = {
        "CodeUri": "{% $states.input.Release.CodeUri %}",
        "StartedBy": "{% $states.input.Run.StartedBy %}",
        "Trigger": "{% $states.input.Run.Trigger %}",
    }
    model_build = _start(
        "StartModelBuild",
        config.model_build,
        common
        | {
            "RunId": f"{{% {RUN_ID} %}}",
            "Commit": "{% $states.input.Commit %}",
            "AccuracyThreshold": "{% $states.input.Release.AccuracyThreshold %}",
            "HyperParameters": "{% $states.input.Release.HyperParameters %}",
            "Preprocess": "{% $states.input.Release.Preprocess %}",
        },
    )
    model_deploy = _start(
        "StartModelDeploy",
        config.model_deploy,
        common
        | {
            "EventId": f"{{% {RUN_ID} %}}",
            "ModelPackageArn": "{% $states.input.Champion[0] %}",
            "RemoveStaging": "{% $states.input.Release.RemoveStaging %}",
        },
    )
    champion = find_champion(config, found=model_deploy, none=then, unknown=unstarted)
    watched = watch(config, then=then, fails=fails)
    watching = go_on(
        config,
        "BeginRun",
        phase=RUNNING,
        run="$states.input.Started.Arn",
        then=watched,
        lost=lost,
        fails=fails,
    )
    for step, next_step in ((model_build, watching), (model_deploy, then)):
        step.add_catch(caught_in(unstarted))
        step.next(next_step)
    return chosen(
        "WhatChanged",
        [
            (ChoiceRule.StringEquals("$.Release.Start", "model-build"), model_build),
            (ChoiceRule.StringEquals("$.Release.Start", "model-deploy"), champion),
        ],
        default=then,
    )


def find_champion(config: Config, *, found: State, none: Step, unknown: State) -> Task:
    """The model package that production serves, from its stack; before the first release there is none."""
    package = "$states.result.Stacks[0].Parameters[ParameterKey = 'ModelPackageName'].ParameterValue"
    find = call_aws(
        "FindChampion",
        "aws-sdk:cloudformation:describeStacks",
        {"StackName": f"{config.project}-production"},
        output=merged("Champion", f"[{package}]"),
        may_refuse=True,
    )
    with_fields(find, credentials={"RoleArn": config.production_reader})
    absent = ChoiceRule.StringMatches("$.Failure.Cause", "*does not exist*")
    wait = Wait("ChampionAskedAgain", seconds_path="$.PollSeconds")
    wait.next(find)
    asked_again = (is_throttled("$.Failure.Cause"), wait)
    find.add_catch(caught_in(chosen("IsNothingReleased", [(absent, none), asked_again], default=unknown)))
    find.next(found)
    return find


def _start(name: str, machine: str, given: dict[str, str]) -> Task:
    """Start an execution under the run's id; its ARN comes to `$.Started`."""
    return call_aws(
        name,
        "states:startExecution",
        {"StateMachineArn": machine, "Name": f"{{% {RUN_ID} %}}", "Input": given},
        output=merged("Started", "{'Arn': $states.result.ExecutionArn, 'Status': 'RUNNING'}"),
    )


def watch(config: Config, *, then: Step, fails: Failing) -> State:
    """Follow model-build until it has ended or asks a person: the next commit waits that long."""
    unseen = fails(
        "RunUnseen",
        error="RunUnseen",
        cause="What has become of {} could not be read: {}: {}",
        paths=("$.Started.Arn", "$.Failure.Error", "$.Failure.Cause"),
    )
    wait = Wait("ModelBuilding", seconds_path="$.WaitSeconds")
    look = call_aws(
        "DescribeRun",
        "aws-sdk:sfn:describeExecution",
        {"ExecutionArn": "{% $states.input.Started.Arn %}"},
        output=merged_all(
            Started="$merge([$states.input.Started, {'Status': $states.result.Status, "
            "'Error': $exists($states.result.Error) ? $states.result.Error : '', "
            "'Cause': $exists($states.result.Cause) ? $states.result.Cause : ''}])",
            WaitSeconds=WAIT_SECONDS,
        ),
    )
    ask = call_aws(
        "IsItAsking",
        "aws-sdk:sfn:getExecutionHistory",
        last_event("$states.input.Started.Arn"),
        output=merged("Started", f"$merge([$states.input.Started, {{'IsAsking': {IS_ASKING}}}])"),
    )
    for step in (look, ask):
        step.add_catch(caught_in(unseen))
    wait.next(look)
    look.next(
        chosen("IsRunning", [(ChoiceRule.StringEquals("$.Started.Status", "RUNNING"), ask)], default=then)
    )
    ask.next(chosen("IsAsking", [(ChoiceRule.BooleanEquals("$.Started.IsAsking", True), then)], default=wait))
    return wait


def outcome(fails: Failing, *, done: State) -> State:
    """A run that failed before anybody was asked is a failure of its commit."""
    failed = fails(
        "ModelNotBuilt",
        error="ModelNotBuilt",
        cause="The run {} of commit {} ended as {}: {}: {}",
        paths=("$.Started.Arn", "$.Commit", "$.Started.Status", "$.Started.Error", "$.Started.Cause"),
    )
    status = "$.Started.Status"
    return chosen(
        "Outcome",
        [
            (
                ChoiceRule.Or(
                    [ChoiceRule.StringEquals(status, it) for it in ("NONE", "RUNNING", "SUCCEEDED")]
                ),
                done,
            )
        ],
        default=failed,
    )


def tell(config: Config) -> State:
    """Mail what failed, and fail with it."""
    end = with_fields(Fail("NotReleased"), error_path="$.Failed.Error", cause_path="$.Failed.Cause")
    publish = Task(
        "TellSubscribers",
        resource="arn:aws:states:::sns:publish",
        parameters={
            "TopicArn": config.notifications,
            "Subject": concatenated(f"{config.project} ci: {{}}", "$.Failed.Error"),
            "Message": concatenated("{}\n\nExecution: {}", "$.Failed.Cause", "$$.Execution.Id"),
        },
        result_path="$.Told",
    )
    publish.add_retry(throttled("sns"))
    publish.add_catch(caught(end, path="$.NotTold"))  # the execution fails with it, whoever was told
    publish.next(end)
    return publish


def mailed(name: str, *, error: str, cause: str, paths: tuple[str, ...] = (), tell: State) -> State:
    """An end like workflows.language.failed that is mailed first."""
    keep = Pass(
        name, parameters={"Error": error, "Cause": concatenated(cause, *paths)}, result_path="$.Failed"
    )
    keep.next(tell)
    return keep
