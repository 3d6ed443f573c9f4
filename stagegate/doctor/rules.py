"""The rules, a table."""

from stagegate.doctor.alarms import alarm_missing
from stagegate.doctor.approvals import decided_by_get
from stagegate.doctor.findings import Rule
from stagegate.doctor.names import job_name_collides, job_name_too_long
from stagegate.doctor.payloads import payload_too_large
from stagegate.doctor.permissions import permission_missing
from stagegate.doctor.throttling import throttling_not_handled
from stagegate.doctor.waiting import stopped_not_handled, token_without_timeout

RULES = (
    Rule(
        code="job-name-collides",
        looks_at="names of SageMaker jobs, model packages, nested executions and change sets",
        costs="A name is taken once: the retry, the redrive or the next execution fails.",
        remedy="Put States.UUID() into the name; or $$.State.RetryCount and $$.Execution.RedriveCount, with "
        "what names the run.",
        check=job_name_collides,
    ),
    Rule(
        code="job-name-too-long",
        looks_at="the same names, with what execution names and UUIDs add",
        costs="The API refuses the call, for executions with long names only.",
        remedy="Name the job by a short id from the input; an execution's name has up to 80 characters.",
        check=job_name_too_long,
    ),
    Rule(
        code="payload-too-large",
        looks_at="answers without a bound, and the results of Map states, that go on whole",
        costs="More than 262,144 bytes between states end the execution with States.DataLimitExceeded.",
        remedy="Select what is needed (ResultSelector, Output), discard it (ResultPath null), or write it to "
        "S3 (ResultWriter).",
        check=payload_too_large,
    ),
    Rule(
        code="token-without-timeout",
        looks_at="tasks that wait for a token, and activities",
        costs="A token that is lost is waited for until the execution ends, after a year.",
        remedy="Give TimeoutSeconds, or HeartbeatSeconds, and catch States.Timeout.",
        check=token_without_timeout,
    ),
    Rule(
        code="stopped-not-handled",
        looks_at="SageMaker jobs that are waited for",
        costs="A job stopped by its time limit, for want of spot capacity or by hand may end the task well: "
        "what it left goes on as if it were complete.",
        remedy="Let a Choice ask whether the status is Completed.",
        check=stopped_not_handled,
    ),
    Rule(
        code="throttling-not-handled",
        looks_at="tasks that call an API, their Retry and Catch",
        costs="A burst of calls by anybody in the account ends the execution.",
        remedy="Retry the integration's throttling error, by its right name, with backoff and jitter.",
        check=throttling_not_handled,
    ),
    Rule(
        code="alarm-missing",
        looks_at="alarms for the rollback of endpoints and of state machine aliases",
        costs="An alarm that does not exist counts as OK: nothing is rolled back.",
        remedy="Make the alarm in a template, and refer to it.",
        check=alarm_missing,
    ),
    Rule(
        code="permission-missing",
        looks_at="the role of each state machine whose definition is known",
        costs="The state machine cannot be created, or its task fails with an access denied.",
        remedy="Allow the action in a policy of the role.",
        check=permission_missing,
    ),
    Rule(
        code="decided-by-get",
        looks_at="API methods, function URLs, and messages with a task token",
        costs="Mail scanners and link previews open every link, and so approve what nobody has read.",
        remedy="Let GET show a page and only POST decide; keep the token in a table, and mail a signed id.",
        check=decided_by_get,
    ),
)
