"""An execution as Step Functions describes it, without its history."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from botocore.exceptions import ClientError
from starlette.exceptions import HTTPException

from stagegate.aws import Services, error_code
from stagegate.console.run_list import read_json, subject_of
from stagegate.console.words import shortened

_EXECUTION = re.compile(r"arn:[\w-]+:states:[\w-]+:\d{12}:(execution|express):[^\s:]+:[^\s:]+(:[^\s:]+)?")
_STARTED_BY = "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID"
"""The member of an input for which AWS's own console looks, too:
https://docs.aws.amazon.com/step-functions/latest/dg/concepts-nested-workflows.html"""


@dataclass(frozen=True, kw_only=True)
class Execution:
    described: dict[str, Any]

    @property
    def arn(self) -> str:
        arn: str = self.described["executionArn"]
        return arn

    @property
    def status(self) -> str:
        status: str = self.described["status"]
        return status

    @property
    def is_running(self) -> bool:
        return self.status in ("RUNNING", "PENDING_REDRIVE")

    @property
    def has_failed(self) -> bool:
        return self.status in ("FAILED", "TIMED_OUT", "ABORTED")

    @property
    def state_machine(self) -> str:
        """Without the label of a Map, of whose Map Run it is a child."""
        name: str = self.described["stateMachineArn"].split(":")[6]
        return name.partition("/")[0]

    @property
    def map_run_arn(self) -> str:
        """Of the Map Run whose child it is; "" for others."""
        arn: str = self.described.get("mapRunArn", "")
        return arn

    @property
    def started_by(self) -> str:
        """The ARN of the execution that its input says has started it."""
        given = self.given.get(_STARTED_BY) if isinstance(self.given, dict) else None
        return given if isinstance(given, str) and _EXECUTION.fullmatch(given) else ""

    @property
    def started(self) -> datetime:
        started: datetime = self.described["startDate"]
        return started

    @property
    def until(self) -> datetime:
        return self.described.get("stopDate") or datetime.now(UTC)

    @property
    def seconds(self) -> float:
        return (self.until - self.started).total_seconds()

    @cached_property
    def given(self) -> Any:
        """Its input; None where that is too long for AWS to give, and so for us to read."""
        return read_json(self.described.get("input", ""))

    @property
    def trigger(self) -> str:
        return str(self.given.get("Trigger", "")) if isinstance(self.given, dict) else ""

    @property
    def subject(self) -> str:
        return subject_of(self.given)

    @property
    def input(self) -> str:
        return shortened(self.described.get("input", ""))

    @property
    def output(self) -> str:
        """Nothing while there is none."""
        return shortened(self.described.get("output", ""))


def read_execution(services: Services, execution_arn: str) -> Execution:
    """Raises HTTPException where there is no such execution."""
    try:
        return Execution(described=services("stepfunctions").describe_execution(executionArn=execution_arn))
    except ClientError as error:
        if error_code(error) in ("ExecutionDoesNotExist", "InvalidArn", "ValidationException"):
            raise HTTPException(404, f"There is no run '{execution_arn}'.") from error
        raise
