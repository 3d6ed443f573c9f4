"""What the state machines take from the platform: names that CloudFormation puts in when it deploys them.

Each is a `${Substitution}` in the rendered definition, filled by DefinitionSubstitutions in
deploy/platform.yaml, so that a definition knows neither its region nor its account.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Account:
    """Where a stage is: in the platform's own account, or in one apart."""

    role: str
    """By which the state machines act there."""
    stack_role: str
    """What CloudFormation may do when it deploys an endpoint."""
    endpoint_role: str
    """What the models behind the endpoints may do."""
    vpc_subnets: str
    """With commas between them; empty for the network of AWS's own."""
    vpc_security_groups: str


def _account(word: str) -> Account:
    return Account(
        role=f"${{{word}RoleArn}}",
        stack_role=f"${{{word}StackRoleArn}}",
        endpoint_role=f"${{{word}EndpointRoleArn}}",
        vpc_subnets=f"${{{word}SubnetIds}}",
        vpc_security_groups=f"${{{word}SecurityGroupIds}}",
    )


STAGING_ACCOUNT, PRODUCTION_ACCOUNT = _account("Staging"), _account("Production")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The platform's things, by the names of their substitutions."""

    data_bucket: str = "${DataBucket}"
    """Datasets, and the runs' folders."""
    assets_bucket: str = "${AssetsBucket}"
    """The code bundles."""
    assets_url: str = "${AssetsUrl}"
    """The same bucket as CloudFormation wants it in a TemplateURL."""
    job_role: str = "${JobRoleArn}"
    """What training and processing jobs may do."""
    staging: Account = STAGING_ACCOUNT
    production: Account = PRODUCTION_ACCOUNT
    production_reader: str = "${ProductionReaderRoleArn}"
    """By which is read what production serves, and nothing else."""
    kms_key: str = "${KmsKeyArn}"
    """Empty for the keys of AWS's own."""
    processing_image: str = "${ProcessingImage}"
    training_image: str = "${TrainingImage}"
    inference_image: str = "${InferenceImage}"
    processing_instance: str = "${ProcessingInstanceType}"
    training_instance: str = "${TrainingInstanceType}"
    model_package_group: str = "${ModelPackageGroup}"
    step_cache: str = "${StepCacheTable}"
    """What jobs have made, by what they made it from."""
    approval_request: str = "${ApprovalRequestFunction}"
    approvers: str = "${Approvers}"
    """Mail addresses, with commas between them."""
    required_approvals: str = "${RequiredApprovals}"
    four_eyes: str = "${FourEyes}"
    endpoint_test_project: str = "${EndpointTestProject}"
    """Called the same in the account of each stage."""
    project: str = "${Project}"
    """The prefix of the endpoints and their stacks."""
    poll_seconds: str = "${PollSeconds}"
    """How long to wait before asking CloudFormation again."""
    locks: str = "${LocksTable}"
    """Which event has started which execution, and whose turn it is in continuous integration."""
    repository: str = "${Repository}"
    branch: str = "${Branch}"
    execution_mode: str = "${ExecutionMode}"
    """QUEUED or SUPERSEDED, as CodePipeline calls it: what becomes of a commit when a newer one comes."""
    build_project: str = "${BuildProject}"
    platform_role: str = "${PlatformRoleArn}"
    """What CloudFormation may do when it updates the platform."""
    notifications: str = "${NotificationTopic}"
    """The topic whose subscribers are told what failed in continuous integration."""
    model_build: str = "${ModelBuildArn}"
    model_deploy: str = "${ModelDeployArn}"


DAY = 24 * 3600
WEEK = 7 * DAY
ACCURACY_THRESHOLD = 0.60
CACHE_DAYS = 30
"""How long a job that has run is not run again."""
PREPROCESS = {"image-size": "64", "validation-fraction": "0.1", "test-fraction": "0.2", "seed": "0"}
"""The options of training/preprocess.py; an execution's input may set any of them."""

BUILD_SECONDS = 2 * 3600
"""In the queue of CodeBuild and in the build together."""
PROCESSING_SECONDS = 6 * 3600
TRAINING_SECONDS = 24 * 3600
SPOT_WAIT_SECONDS = 48 * 3600
"""Training and waiting for spot capacity together: what MaxWaitTimeInSeconds means."""

METRICS = ("train:loss", "train:accuracy", "validation:loss", "validation:accuracy")


def metric_definitions() -> list[dict[str, str]]:
    """How SageMaker finds the metrics in the lines that training/train.py prints once an epoch."""
    return [{"Name": metric, "Regex": rf"(?:^|\s){metric}=([0-9.]+(?:e[-+]?[0-9]+)?)"} for metric in METRICS]
