"""Models and endpoint configs: what an endpoint is made of, before anything runs."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from stagegate.local import s3
from stagegate.local.sagemaker import serverless
from stagegate.local.sagemaker.model_data import uri_of
from stagegate.local.sagemaker.multi_model import is_multi_model
from stagegate.local.sagemaker.pipeline import containers_of, several
from stagegate.local.sagemaker.resources import (
    CONFIG,
    MODEL,
    Document,
    check_name,
    invalid,
    order,
    page,
    pick,
    put_tags,
    refuse,
    select,
)
from stagegate.local.service import AWSError, Service

_MODEL_NAME = r"[a-zA-Z0-9]([\-a-zA-Z0-9]*[a-zA-Z0-9])?"
_MODEL_GIVEN_BACK = (
    "ModelName",
    "ModelArn",
    "CreationTime",
    "PrimaryContainer",
    "Containers",
    "ExecutionRoleArn",
    "VpcConfig",
    "EnableNetworkIsolation",
    "InferenceExecutionConfig",
)


class Models(Service):
    """Models and endpoint configs."""

    async def create_model(
        self,
        *,
        ModelName: str,
        PrimaryContainer: Document | None = None,
        Containers: list[Document] | None = None,
        ExecutionRoleArn: str | None = None,
        VpcConfig: Document | None = None,
        EnableNetworkIsolation: bool = False,
        Tags: list[dict[str, str]] | None = None,
        InferenceExecutionConfig: Document | None = None,
    ) -> Document:
        check_name(ModelName, member="modelName", pattern=_MODEL_NAME)
        containers = Containers or ([PrimaryContainer] if PrimaryContainer else [])
        if not containers or (PrimaryContainer and Containers):
            raise invalid("Either PrimaryContainer or Containers must be provided, but not both")
        resolved = [await self._resolve(container) for container in containers]
        for container in resolved:
            await self._check_model_data(container)

        arn = self.runtime.arn("sagemaker", f"model/{ModelName}")
        if self.runtime.store.get(MODEL, ModelName):
            raise invalid(f'Cannot create already existing model "{arn}".')
        model = {
            "ModelName": ModelName,
            "ModelArn": arn,
            "CreationTime": datetime.now(UTC),
            "PrimaryContainer": PrimaryContainer,
            "Containers": Containers,
            "ExecutionRoleArn": ExecutionRoleArn,
            "VpcConfig": VpcConfig,
            "EnableNetworkIsolation": EnableNetworkIsolation,
            "InferenceExecutionConfig": InferenceExecutionConfig,
            "Resolved": several(resolved, InferenceExecutionConfig) if len(resolved) > 1 else resolved[0],
        }
        self.runtime.store.put(MODEL, ModelName, model)
        put_tags(self.runtime.store, arn, Tags)
        return {"ModelArn": arn}

    def describe_model(self, *, ModelName: str) -> Document:
        return pick(self._model(ModelName), _MODEL_GIVEN_BACK)

    def list_models(
        self,
        *,
        SortBy: str = "CreationTime",
        SortOrder: str = "Descending",
        NextToken: str | None = None,
        MaxResults: int | None = None,
        NameContains: str | None = None,
        CreationTimeBefore: datetime | None = None,
        CreationTimeAfter: datetime | None = None,
    ) -> Document:
        models = select(
            self.runtime.store.list(MODEL),
            name="ModelName",
            contains=NameContains,
            created_after=CreationTimeAfter,
            created_before=CreationTimeBefore,
        )
        by = "ModelName" if SortBy == "Name" else SortBy
        summaries = [
            pick(model, ("ModelName", "ModelArn", "CreationTime"))
            for model in order(models, by=by, descending=SortOrder == "Descending")
        ]
        return page(summaries, member="Models", token=NextToken, size=MaxResults)

    def delete_model(self, *, ModelName: str) -> Document:
        model = self._model(ModelName)
        self.runtime.store.delete(MODEL, ModelName)
        put_tags(self.runtime.store, model["ModelArn"], None)
        return {}

    def create_endpoint_config(
        self,
        *,
        EndpointConfigName: str,
        ProductionVariants: list[Document],
        DataCaptureConfig: Document | None = None,
        AsyncInferenceConfig: Document | None = None,
        ShadowProductionVariants: list[Document] | None = None,
        Tags: list[dict[str, str]] | None = None,
        KmsKeyId: str | None = None,
        ExecutionRoleArn: str | None = None,
        VpcConfig: Document | None = None,
        EnableNetworkIsolation: bool = False,
        **others: Any,
    ) -> Document:
        refuse(others.items(), operation="CreateEndpointConfig")
        check_name(EndpointConfigName, member="endpointConfigName")
        variants = [self._variant(variant) for variant in ProductionVariants]
        shadows = [self._variant(variant) for variant in ShadowProductionVariants or ()]
        if shadows and not len(variants) == len(shadows) == 1:
            raise invalid(
                "Only one of ProductionVariants and one of ShadowProductionVariants can be specified"
            )
        if shadows and AsyncInferenceConfig:
            raise invalid("ShadowProductionVariants are not supported with AsyncInferenceConfig")
        for name, count in Counter(variant["VariantName"] for variant in (*variants, *shadows)).items():
            if count > 1:
                raise invalid(f'Duplicate variant name "{name}": variant names must be unique')
        models = [self._model(variant["ModelName"]) for variant in variants]
        if any(is_multi_model(model["Resolved"]) for model in models) and (
            AsyncInferenceConfig or shadows or any("ServerlessConfig" in variant for variant in variants)
        ):
            raise invalid(
                "A model with Mode MultiModel goes with none of AsyncInferenceConfig, ServerlessConfig and "
                "ShadowProductionVariants"
            )
        if any(containers_of(model["Resolved"]) for model in models) and any(
            "ServerlessConfig" in variant for variant in variants
        ):
            raise invalid("A model of several containers cannot be served with a ServerlessConfig")
        if AsyncInferenceConfig and any(model["Resolved"].get("IsDirect") for model in models):
            raise invalid("Containers that are invoked directly cannot be served with AsyncInferenceConfig")
        serverless.check_endpoint_config(
            variants,
            {
                "AsyncInferenceConfig": AsyncInferenceConfig,
                "ShadowProductionVariants": shadows,
                "DataCaptureConfig": DataCaptureConfig,
                "VpcConfig": VpcConfig or any(model.get("VpcConfig") for model in models),
                "EnableNetworkIsolation": EnableNetworkIsolation
                or any(model["EnableNetworkIsolation"] for model in models),
            },
        )
        if DataCaptureConfig is not None:
            s3.split_uri(DataCaptureConfig["DestinationS3Uri"])
        for member in ("S3OutputPath", "S3FailurePath"):
            if (
                uri := (AsyncInferenceConfig or {"OutputConfig": {}})["OutputConfig"].get(member)
            ) is not None:
                s3.split_uri(uri)

        arn = self.runtime.arn("sagemaker", f"endpoint-config/{EndpointConfigName}")
        if self.runtime.store.get(CONFIG, EndpointConfigName):
            raise invalid(f'Cannot create already existing endpoint configuration "{arn}".')
        config = {
            "EndpointConfigName": EndpointConfigName,
            "EndpointConfigArn": arn,
            "ProductionVariants": variants,
            "ShadowProductionVariants": shadows or None,
            "DataCaptureConfig": DataCaptureConfig,
            "AsyncInferenceConfig": AsyncInferenceConfig,
            "KmsKeyId": KmsKeyId,
            "CreationTime": datetime.now(UTC),
            "ExecutionRoleArn": ExecutionRoleArn,
            "VpcConfig": VpcConfig,
            "EnableNetworkIsolation": EnableNetworkIsolation,
        }
        self.runtime.store.put(CONFIG, EndpointConfigName, config)
        put_tags(self.runtime.store, arn, Tags)
        return {"EndpointConfigArn": arn}

    def describe_endpoint_config(self, *, EndpointConfigName: str) -> Document:
        config = self._config(EndpointConfigName)
        return pick(config, config)

    def list_endpoint_configs(
        self,
        *,
        SortBy: str = "CreationTime",
        SortOrder: str = "Descending",
        NextToken: str | None = None,
        MaxResults: int | None = None,
        NameContains: str | None = None,
        CreationTimeBefore: datetime | None = None,
        CreationTimeAfter: datetime | None = None,
    ) -> Document:
        configs = select(
            self.runtime.store.list(CONFIG),
            name="EndpointConfigName",
            contains=NameContains,
            created_after=CreationTimeAfter,
            created_before=CreationTimeBefore,
        )
        by = "EndpointConfigName" if SortBy == "Name" else SortBy
        summaries = [
            pick(config, ("EndpointConfigName", "EndpointConfigArn", "CreationTime"))
            for config in order(configs, by=by, descending=SortOrder == "Descending")
        ]
        return page(summaries, member="EndpointConfigs", token=NextToken, size=MaxResults)

    def delete_endpoint_config(self, *, EndpointConfigName: str) -> Document:
        config = self._config(EndpointConfigName)
        self.runtime.store.delete(CONFIG, EndpointConfigName)
        put_tags(self.runtime.store, config["EndpointConfigArn"], None)
        return {}

    def _model(self, name: str) -> Document:
        model = self.runtime.store.get(MODEL, name)
        if model is None:
            raise invalid(f'Could not find model "{self.runtime.arn("sagemaker", f"model/{name}")}".')
        return model

    def _config(self, name: str) -> Document:
        config = self.runtime.store.get(CONFIG, name)
        if config is None:
            arn = self.runtime.arn("sagemaker", f"endpoint-config/{name}")
            raise invalid(f'Could not find endpoint configuration "{arn}".')
        return config

    async def _resolve(self, container: Document) -> Document:
        """The image, model data and environment; those of the model package where the container names one."""
        refuse(
            [
                ("AdditionalModelDataSources", container.get("AdditionalModelDataSources")),
                ("InferenceSpecificationName", container.get("InferenceSpecificationName")),
            ],
            operation="CreateModel",
        )
        if (name := container.get("ModelPackageName")) is None:
            if "Image" not in container:
                raise invalid("A container needs an Image or a ModelPackageName")
            return container
        package = await self.runtime.as_caller().aws(
            "sagemaker", "DescribeModelPackage", {"ModelPackageName": name}
        )
        arn = package["ModelPackageArn"]
        if package.get("ModelApprovalStatus", "Approved") != "Approved":
            raise invalid(
                f"Cannot create a Model from ModelPackage {arn}: its approval status is "
                f"{package['ModelApprovalStatus']}, it must be Approved"
            )
        containers = package.get("InferenceSpecification", {}).get("Containers", [])
        if len(containers) != 1:
            raise invalid(f"ModelPackage {arn} has {len(containers)} containers; only one is supported")
        environment = {**containers[0].get("Environment", {}), **container.get("Environment", {})}
        return {**containers[0], **pick(container, ("ContainerHostname",)), "Environment": environment}

    async def _check_model_data(self, container: Document) -> None:
        uri = uri_of(container)
        if is_multi_model(container):
            if container.get("ModelDataUrl") is None:
                raise invalid("A container with Mode MultiModel needs a ModelDataUrl, where its models lie")
            s3.split_uri(container["ModelDataUrl"])
            return  # models may come later
        if uri is None:
            return
        try:
            is_there = bool(await s3.keys(self.runtime.aws, uri))
        except AWSError as error:
            if error.code != "NoSuchBucket":
                raise
            is_there = False
        if not is_there:
            raise invalid(f"Could not find model data at {uri}.")

    def _variant(self, variant: Document) -> Document:
        self._model(variant.get("ModelName", ""))
        check_name(variant["VariantName"], member="variantName")
        refuse(
            [
                (name, variant.get(name))
                for name in ("InstancePools", "ManagedInstanceScaling", "CoreDumpConfig")
            ],
            operation="CreateEndpointConfig",
        )
        if "ServerlessConfig" in variant:
            serverless.check_variant(variant)
        elif "InstanceType" not in variant or "InitialInstanceCount" not in variant:
            raise invalid(
                f'Variant "{variant["VariantName"]}": InstanceType and InitialInstanceCount are required'
            )
        return {"InitialVariantWeight": 1.0, **variant}
