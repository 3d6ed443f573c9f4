"""The permissions of deploy/platform.yaml that a release to production does not use, each with its reason."""

_CLOUDFORMATION = "CloudFormation's own handlers read, tag and take away on AWS what they have made"
_SCALING = "Application Auto Scaling does it for who registers a target; nothing scales on one machine"
_TAKEN_BACK = "a release that fails, is stopped or is taken back: tests/release/test_broken_models.py"
_UNANSWERED = "nobody answers, and it is ended and written down: tests/release/test_approval.py"
_COMPARED = "the model is compared with the one in production, which the first release does not have"

_TRACED = dict.fromkeys(
    ("xray:PutTraceSegments", "xray:PutTelemetryRecords", "xray:GetSamplingRules", "xray:GetSamplingTargets"),
    "X-Ray is told on AWS alone",
)
_BY_ITSELF = "data that comes by itself lies there, and what a push starts: tests/release/test_ci.py"

ELSEWHERE = {"stagegate-ci": "tests/release/test_ci.py"}
"""Roles that do their work in another test."""

UNUSED = {
    "stagegate-approval-decision": {
        **_TRACED,
        "secret:stagegate/approval-webhook-secret": "only where WebhookUrl is set",
        "states:DescribeExecution": "a decision about an execution that has ended",
    },
    "stagegate-approval-request": {
        **_TRACED,
        "dynamodb:PutItem": _UNANSWERED,
        "dynamodb:Query": _UNANSWERED,
        "secret:stagegate/approval-webhook-secret": "only where WebhookUrl is set",
        "ses:SendRawEmail": "SES asks for it beside ses:SendEmail where the message is raw",
        "sns:Publish": "only where there is no sender of SES",
        "states:SendTaskSuccess": _UNANSWERED,
    },
    "stagegate-endpoint-tests": {
        "s3:GetObjectVersion": "CodeBuild asks for it beside s3:GetObject for a source in S3",
    },
    "stagegate-endpoints": {
        "cloudwatch:PutMetricData": "SageMaker sends the metrics of an endpoint's instances by it",
        "logs:DescribeLogStreams": "SageMaker asks for it before it writes a container's log",
        "s3:ListBucket": "SageMaker asks for it before it loads model data",
    },
    "stagegate-events": {
        "stateMachine:stagegate-ci": _BY_ITSELF,
        "stateMachine:stagegate-model-build:live": _BY_ITSELF,
    },
    "stagegate-jobs": {
        "stagegate-data-111111111111-us-east-1/datasets/*": _BY_ITSELF,
        "logs:DescribeLogStreams": "SageMaker asks for it before it writes a container's log",
    },
    "stagegate-stage": {
        "cloudformation:DeleteChangeSet": _TAKEN_BACK,
        "cloudformation:DeleteStack": _TAKEN_BACK,
        "cloudformation:DescribeStackEvents": _TAKEN_BACK,
        "cloudformation:UpdateStack": _TAKEN_BACK,
        "cloudwatch:DescribeAlarms": _TAKEN_BACK,
        "codebuild:StopBuild": "an execution that is stopped ends the build that it waits for",
    },
    "stagegate-stage-reader": {
        "cloudformation:DescribeStacks": "only ci asks for the stack of production",
        "endpoint-config/*": _COMPARED,
        "model/*": _COMPARED,
        "sagemaker:DescribeEndpointConfig": _COMPARED,
        "sagemaker:DescribeModel": _COMPARED,
    },
    "stagegate-stacks": {
        "application-autoscaling:DeleteScalingPolicy": _CLOUDFORMATION,
        "application-autoscaling:DeregisterScalableTarget": _CLOUDFORMATION,
        "application-autoscaling:DescribeScalableTargets": _CLOUDFORMATION,
        "application-autoscaling:DescribeScalingPolicies": _CLOUDFORMATION,
        "cloudwatch:DeleteAlarms": _CLOUDFORMATION,
        "cloudwatch:PutMetricAlarm": _SCALING,
        "iam:CreateServiceLinkedRole": _SCALING,
        "sagemaker:AddTags": _CLOUDFORMATION,
        "sagemaker:CreateModel": "a registry of another account asks for it, for the package's model",
        "sagemaker:DeleteEndpoint": _CLOUDFORMATION,
        "sagemaker:DeleteEndpointConfig": _CLOUDFORMATION,
        "sagemaker:DeleteModel": _CLOUDFORMATION,
        "sagemaker:DescribeEndpointConfig": _CLOUDFORMATION,
        "sagemaker:DescribeModel": _CLOUDFORMATION,
        "sagemaker:ListTags": _CLOUDFORMATION,
        "sagemaker:UpdateEndpoint": "only the second release to a stage updates its endpoint",
        "sagemaker:UpdateEndpointWeightsAndCapacities": _SCALING,
    },
    "stagegate-states": {
        **_TRACED,
        "stagegate-data-111111111111-us-east-1/datasets/*": _BY_ITSELF,
        "model-package-group/stagegate-models": "AWS asks about the group where a package has no version yet",
        "s3:ListBucket": "without it S3 answers a missing object with 403",
        "sagemaker:StopProcessingJob": "an execution that is stopped ends the job that it waits for",
        "sagemaker:StopTrainingJob": "an execution that is stopped ends the job that it waits for",
    },
}
"""By the role: an action, or the end of a resource's ARN without what is drawn by lot."""
