"""What goes wrong in an execution, in the States Language's own words, and which Retry and Catch answer it.

ExecutionError
├── StateFailed      a state has failed: `Retry` and `Catch` may answer
└── EvaluationFailed a path, a function or a template could not be evaluated: becomes a StateFailed
"""

from collections.abc import Sequence

ALL = "States.ALL"
RUNTIME = "States.Runtime"
TIMEOUT = "States.Timeout"
HEARTBEAT_TIMEOUT = "States.HeartbeatTimeout"
TASK_FAILED = "States.TaskFailed"
PERMISSIONS = "States.Permissions"
DATA_LIMIT_EXCEEDED = "States.DataLimitExceeded"
INTRINSIC_FAILURE = "States.IntrinsicFailure"
RESULT_PATH_MATCH_FAILURE = "States.ResultPathMatchFailure"
NO_CHOICE_MATCHED = "States.NoChoiceMatched"
QUERY_EVALUATION_ERROR = "States.QueryEvaluationError"

_NOT_IN_ALL = {RUNTIME, DATA_LIMIT_EXCEEDED}


class ExecutionError(Exception):
    """An error with a name and, mostly, a cause."""

    def __init__(self, error: str | None, cause: str | None = None) -> None:
        super().__init__(f"{error}: {cause}")
        self.error = error
        self.cause = cause


class StateFailed(ExecutionError):
    """A state has failed.

    `from_task`: the work itself failed, which "States.TaskFailed" stands for. `heartbeat`: a heartbeat
    was missed. `has_failed_inside`: a branch or an iteration of the state has failed.
    """

    def __init__(
        self,
        error: str | None,
        cause: str | None = None,
        *,
        from_task: bool = False,
        heartbeat: bool = False,
        has_failed_inside: bool = False,
    ) -> None:
        super().__init__(error, cause)
        self.from_task = from_task
        self.heartbeat = heartbeat
        self.has_failed_inside = has_failed_inside

    def is_one_of(self, names: Sequence[str]) -> bool:
        """Whether an `ErrorEquals` of these names answers this error.

        States.Runtime is never answered, States.DataLimitExceeded only by its own name:
        https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
        """
        if self.error == RUNTIME:
            return False
        for name in names:
            if name == self.error or (name == ALL and self.error not in _NOT_IN_ALL):
                return True
            if name == TASK_FAILED and self.from_task and self.error != TIMEOUT:
                return True
            if name == HEARTBEAT_TIMEOUT and self.heartbeat:
                return True
        return False


class EvaluationFailed(ExecutionError):
    """What a state's definition asks of its data is not there, or not of that kind.

    `location`: the field whose JSONata failed, for which the history has an event of its own.
    `is_of_expression`: the expression itself failed, not what the state then made of its value.
    """

    def __init__(
        self,
        cause: str,
        *,
        error: str = RUNTIME,
        location: str | None = None,
        is_of_expression: bool = False,
    ) -> None:
        super().__init__(error, cause)
        self.location = location
        self.is_of_expression = is_of_expression
