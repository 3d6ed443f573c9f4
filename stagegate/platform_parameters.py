"""The parameters of the platform's template: which of them [platform] sets, and what there is of the data."""

from dataclasses import dataclass

from botocore.exceptions import ClientError

from stagegate.aws import Services, error_code
from stagegate.config import FILE, Config
from stagegate.errors import ConfigurationError
from stagegate.stacks import physical_name
from stagegate.templates import read_template

STATE_MACHINES = ("ci", "model-build", "model-deploy")


def stack_name(config: Config) -> str:
    return f"{config.project}-platform"


def definition_key(machine: str) -> str:
    """The template's parameter for where a definition is: `ModelBuildDefinitionKey`."""
    return "".join(word.capitalize() for word in machine.split("-")) + "DefinitionKey"


def stage_accounts(config: Config) -> list[str]:
    """Those that stages have of their own."""
    named = (config.platform.get(name, "") for name in ("StagingAccount", "ProductionAccount"))
    return sorted({account for account in named if account})


_NETWORK = ("VpcId", "VpcSubnetIds", "VpcSecurityGroupIds")
_SET_BY_UP = {
    "Project": "the setting project",
    "Approvers": "the setting approvers",
    "TopicSubscriber": "the first of the setting approvers",
    "RequiredApprovals": "the setting required_approvals",
    "FourEyes": "the setting four_eyes",
    "RemoveStaging": "the setting remove_staging",
    "SenderEmail": "the setting sender",
    "WebhookUrl": "the setting webhook_url",
    "Repository": "the setting project",
    "AccuracyThreshold": "the setting accuracy_threshold",
    "HyperParameters": "the setting hyperparameters",
    "Preprocess": "the setting preprocess",
    "Commit": "what is deployed",
    "CodeUri": "what `stagegate up` uploads",
    "FunctionsKey": "what `stagegate up` uploads",
    **{definition_key(machine): "what `stagegate up` uploads" for machine in STATE_MACHINES},
    **dict.fromkeys(
        ("CreateDataBucket", "CreateApprovalRecord", "CreateModelPackageGroup", "CreateCodeRepository"),
        "what `stagegate up` finds out: whether it is there already",
    ),
}
"""Parameters of the template that are not the table's to set, and who sets them."""


def chosen_parameters(config: Config, template: str) -> dict[str, str]:
    """What the table [platform] sets.

    Raises ConfigurationError for what is no parameter of the template, or has a setting of its own.
    """
    declared = read_template(template)["Parameters"]
    settable = declared.keys() - _SET_BY_UP.keys()
    for name in config.platform:
        if name in _SET_BY_UP:
            raise ConfigurationError(f"{FILE}: [platform] sets {name}, which is {_SET_BY_UP[name]}")
        if name not in declared:
            raise ConfigurationError(
                f"{FILE}: [platform] sets {name}, which deploy/platform.yaml has no parameter for; "
                f"it has {', '.join(sorted(settable))}"
            )
    network = [name for name in _NETWORK if config.platform.get(name)]
    if network and len(network) < len(_NETWORK):
        raise ConfigurationError(
            f"{FILE}: [platform] sets {', '.join(network)}; it should set "
            f"all of {', '.join(_NETWORK)}, or none"
        )
    return dict(config.platform)


@dataclass(frozen=True, kw_only=True)
class DataStore:
    """Where data is kept, which stays when the platform goes."""

    logical_id: str
    resource_type: str
    name: str
    physical_id: str
    """By which CloudFormation knows it; empty where it is not there."""

    @property
    def is_there(self) -> bool:
        return bool(self.physical_id)


def data_stores(services: Services) -> tuple[DataStore, ...]:
    config = services.config
    bucket = config.platform.get(
        "DataBucketName", f"{config.project}-data-{services.account()}-{config.region}"
    )
    record, group = f"{config.project}-approval-record", f"{config.project}-models"
    repository = config.project
    return (
        DataStore(
            logical_id="DataBucket",
            resource_type="AWS::S3::Bucket",
            name=bucket,
            physical_id=bucket if has_bucket(services, bucket) else "",
        ),
        DataStore(
            logical_id="ApprovalRecord",
            resource_type="AWS::DynamoDB::Table",
            name=record,
            physical_id=record if _has_table(services, record) else "",
        ),
        DataStore(
            logical_id="ModelPackageGroup",
            resource_type="AWS::SageMaker::ModelPackageGroup",
            name=group,
            physical_id=group if _has_group(services, group) else "",
        ),
        DataStore(
            logical_id="CodeRepository",
            resource_type="AWS::CodeCommit::Repository",
            name=repository,
            physical_id=_repository_id(services, repository),
        ),
    )


def data_parameters(services: Services) -> dict[str, str]:
    """The data bucket, and what of the data is not for the stack to create: it was kept when the last one was
    destroyed, or is the user's own."""
    stack, stores = stack_name(services.config), data_stores(services)
    creates = {
        f"Create{store.logical_id}": not store.is_there
        or physical_name(services, stack, store.logical_id) == store.physical_id
        for store in stores
    }
    return {
        "DataBucketName": stores[0].name,
        **{name: str(is_created).lower() for name, is_created in creates.items()},
    }


def _has_table(services: Services, name: str) -> bool:
    try:
        services("dynamodb").describe_table(TableName=name)
    except ClientError as error:
        if error_code(error) == "ResourceNotFoundException":
            return False
        raise
    return True


def _has_group(services: Services, name: str) -> bool:
    try:
        services("sagemaker").describe_model_package_group(ModelPackageGroupName=name)
    except ClientError as error:
        if error_code(error) == "ValidationException":
            return False
        raise
    return True


def has_bucket(services: Services, bucket: str) -> bool:
    """Whether it is there, and ours."""
    try:
        services("s3").head_bucket(Bucket=bucket, ExpectedBucketOwner=services.account())
    except ClientError as error:
        if error_code(error) in ("404", "NoSuchBucket"):
            return False
        raise
    return True


def _repository_id(services: Services, name: str) -> str:
    """Empty where there is none."""
    try:
        found = services("codecommit").get_repository(repositoryName=name)["repositoryMetadata"]
    except ClientError as error:
        if error_code(error) == "RepositoryDoesNotExistException":
            return ""
        raise
    return str(found["repositoryId"])
