"""What Step Functions itself does under a state machine's role, as it is created, before any task runs.

`.sync` is told of a job's end by a rule that Step Functions makes under the role; so are logs delivered.
https://docs.aws.amazon.com/step-functions/latest/dg/service-integration-iam-templates.html
"""

import re
from collections.abc import Mapping
from typing import Any

from stagegate.local.service import AWSError, Runtime

_RULES = {
    "codebuild:startBuild": "StepFunctionsGetEventForCodeBuildStartBuildRule",
    "sagemaker:createHyperParameterTuningJob": "StepFunctionsGetEventsForSageMakerTuningJobsRule",
    "sagemaker:createProcessingJob": "StepFunctionsGetEventsForSageMakerProcessingJobsRule",
    "sagemaker:createTrainingJob": "StepFunctionsGetEventsForSageMakerTrainingJobsRule",
    "sagemaker:createTransformJob": "StepFunctionsGetEventsForSageMakerTransformJobsRule",
    "states:startExecution": "StepFunctionsGetEventsForStepFunctionsExecutionRule",
}
_MAKING = ("events:PutTargets", "events:PutRule", "events:DescribeRule")
_DELIVERING = (
    "logs:CreateLogDelivery",
    "logs:GetLogDelivery",
    "logs:UpdateLogDelivery",
    "logs:DeleteLogDelivery",
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:DescribeResourcePolicies",
    "logs:DescribeLogGroups",
)
_WAITING = re.compile(r'"arn:aws:states:::(\w+:\w+)\.sync(?::2)?"')


async def authorize(runtime: Runtime, definition: str, logging: Mapping[str, Any]) -> None:
    """Raise what CreateStateMachine does where the role, by which `runtime` calls, may not do it."""
    if runtime.identity is None:
        return
    role = runtime.identity.role_arn
    rules = {rule for api in _WAITING.findall(definition) if (rule := _RULES.get(api))}
    try:
        for rule in sorted(rules):
            for action in _MAKING:
                await runtime.authorize(action, runtime.arn("events", f"rule/{rule}"))
    except AWSError as error:
        message = f"'{role}' is not authorized to create managed-rule."
        raise AWSError("AccessDeniedException", message) from error
    if logging.get("level", "OFF") == "OFF":
        return
    try:
        for action in _DELIVERING:
            await runtime.authorize(action, "*")
    except AWSError as error:
        message = "The state machine IAM Role is not authorized to access the Log Destination"
        raise AWSError("AccessDeniedException", message) from error
