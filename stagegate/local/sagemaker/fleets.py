"""The processes of an endpoint config, from its document in the store: started together, ended together."""

import asyncio
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from stagegate.local.log_stream import LogStream
from stagegate.local.sagemaker import model_data, serverless
from stagegate.local.sagemaker.images import authorize_pull
from stagegate.local.sagemaker.model_process import ModelProcess, Unhealthy
from stagegate.local.sagemaker.multi_model import MultiModelProcess, is_multi_model
from stagegate.local.sagemaker.pipeline import PipelineProcess, containers_of
from stagegate.local.sagemaker.requirements import NotInstalled, install_beside, packages_of
from stagegate.local.sagemaker.resources import CONFIG, MODEL, SESSION, Document, invalid
from stagegate.local.sagemaker.routing import Fleet
from stagegate.local.sagemaker.serverless import ServerlessProcess
from stagegate.local.service import AWSError, Runtime

_DOWNLOAD_SECONDS = 3_600  # for its files, where ModelDataDownloadTimeoutInSeconds says nothing
_STARTUP_SECONDS = 480  # for a model to load, where ContainerStartupHealthCheckTimeoutInSeconds says nothing


class Failed(Exception):
    """A fleet that did not come up; the text is the endpoint's FailureReason."""


def plan(runtime: Runtime, config_name: str) -> Document:
    """What a fleet of this config runs, whole: later changes of the config or its models do not touch it."""
    config = runtime.store.get(CONFIG, config_name)
    if config is None:
        arn = runtime.arn("sagemaker", f"endpoint-config/{config_name}")
        raise invalid(f'Could not find endpoint configuration "{arn}".')
    return {
        "EndpointConfigName": config_name,
        "DataCaptureConfig": config.get("DataCaptureConfig"),
        "AsyncInferenceConfig": config.get("AsyncInferenceConfig"),
        "Variants": [_planned(runtime, variant) for variant in config["ProductionVariants"]],
        "ShadowVariants": [
            _planned(runtime, variant) for variant in config.get("ShadowProductionVariants") or ()
        ],
    }


def entries(planned: Document) -> list[Document]:
    """What has a process: the production variants, then the shadows."""
    return [*planned["Variants"], *planned.get("ShadowVariants", ())]


def with_properties_of(current: Document, planned: Document, *, excluded: set[str]) -> Document:
    """`planned` with the weights, instance counts and data capture that `current` has come to."""
    known = {entry["Variant"]["VariantName"]: entry for entry in entries(current)}

    def retained(entry: Document) -> Document:
        kept = known.get(entry["Variant"]["VariantName"], entry)
        weight = entry if "DesiredWeight" in excluded else kept
        count = entry if "DesiredInstanceCount" in excluded else kept
        return {
            **entry,
            "Weight": weight["Weight"],
            # neither where one of them is serverless and the other is not
            **(
                {"InstanceCount": count["InstanceCount"]}
                if entry["InstanceCount"] and count["InstanceCount"]
                else {}
            ),
        }

    capture = planned if "DataCaptureConfig" in excluded else current
    return {
        **planned,
        "Variants": [retained(entry) for entry in planned["Variants"]],
        "ShadowVariants": [retained(entry) for entry in planned["ShadowVariants"]],
        "DataCaptureConfig": capture["DataCaptureConfig"],
    }


def configure(planned: Document, fleet: Fleet) -> None:
    """Tell what runs already what has become of its `ServerlessConfig`."""
    for entry in planned["Variants"]:
        process = fleet.variants[entry["Variant"]["VariantName"]]
        if isinstance(process, ServerlessProcess):
            process.configure(entry["ServerlessConfig"])


def weights(variants: Iterable[Document]) -> dict[str, float]:
    return {entry["Variant"]["VariantName"]: entry["Weight"] for entry in variants}


def fleet(runtime: Runtime, endpoint: str, planned: Document) -> Fleet:
    """The fleet, with nothing running yet."""
    shadows = planned.get("ShadowVariants", ())
    return Fleet(
        variants=_processes(runtime, endpoint, planned["Variants"]),
        weights=weights(planned["Variants"]),
        shadows=_processes(runtime, endpoint, shadows),
        shadow_weights=weights(shadows),
        data_capture=_capture(planned),
        is_asynchronous=planned.get("AsyncInferenceConfig") is not None,
    )


async def start(runtime: Runtime, endpoint: str, planned: Document, fleet: Fleet) -> None:
    """Return when each variant is healthy; else end all of them and raise `Failed`."""
    starts = [
        asyncio.create_task(
            _start(runtime, endpoint, entry, fleet.processes[entry["Variant"]["VariantName"]])
        )
        for entry in entries(planned)
    ]
    try:
        if failure := planned.get("_Failure"):
            raise Failed(failure)
        await asyncio.gather(*starts)
    except BaseException:
        for task in starts:
            task.cancel()
        await asyncio.gather(*starts, return_exceptions=True)
        await stop(runtime, endpoint, planned, fleet)
        raise


async def resume(runtime: Runtime, endpoint: str, planned: Document, fleet: Fleet) -> None:
    """Bring back what was in service when the server ended; it takes requests as soon as it is healthy."""
    for entry in entries(planned):
        for container, folder in _models(runtime, endpoint, entry):
            await model_data.fetch(_by_role(runtime, entry).aws, container, folder)
        fleet.processes[entry["Variant"]["VariantName"]].resume()


async def end(fleet: Fleet) -> None:
    """End the processes; their files stay, for the next start."""
    await asyncio.gather(*(process.stop() for process in fleet.processes.values()))


async def stop(runtime: Runtime, endpoint: str, planned: Document, fleet: Fleet) -> None:
    """End the processes once they have answered what they were asked, and remove their files."""
    try:
        await asyncio.gather(*(process.drain() for process in fleet.processes.values()))
    finally:
        await end(fleet)
    for entry in entries(planned):
        await asyncio.to_thread(shutil.rmtree, variant_folder(runtime, endpoint, entry), ignore_errors=True)


async def sweep(runtime: Runtime, endpoints: Sequence[Document]) -> None:
    """Remove the files of fleets that were on their way out when the server was killed."""
    wanted = {
        variant_folder(runtime, endpoint["EndpointName"], entry)
        for endpoint in endpoints
        for planned in (endpoint["Fleet"], endpoint.get("Pending", {}).get("Fleet"))
        if planned
        for entry in entries(planned)
    }
    for folder in set((runtime.data / "endpoints").glob("*/*/*")) - wanted:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def endpoint_folder(runtime: Runtime, endpoint: str) -> Path:
    return runtime.data / "endpoints" / endpoint


def log_group(endpoint: str) -> str:
    return f"/aws/sagemaker/Endpoints/{endpoint}"


async def _start(runtime: Runtime, endpoint: str, entry: Document, process: ModelProcess) -> None:
    variant = entry["Variant"]
    await _fetch(runtime, endpoint, entry)
    try:
        for _, folder in _models(runtime, endpoint, entry):
            await install_beside(folder, runtime.data, _log(runtime, endpoint, entry))
        await process.start(seconds=_startup_seconds(entry))
    except (NotInstalled, Unhealthy) as error:
        if entry.get("ServerlessConfig"):
            raise Failed(serverless.SETUP_FAILED) from error
        raise Failed(
            f"The primary container for production variant {variant['VariantName']} did not pass the ping "
            "health check. Please check CloudWatch logs for this endpoint."
        ) from error


async def _fetch(runtime: Runtime, endpoint: str, entry: Document) -> None:
    """The model's files. What is wrong with them is in the endpoint's log, too."""
    seconds = entry["Variant"].get("ModelDataDownloadTimeoutInSeconds", _DOWNLOAD_SECONDS)
    try:
        async with asyncio.timeout(seconds):
            for container, folder in _models(runtime, endpoint, entry):
                await _pull(runtime, endpoint, entry, container)
                await model_data.fetch(_by_role(runtime, entry).aws, container, folder)
    except (model_data.Unavailable, TimeoutError) as error:
        uri = getattr(error, "uri", model_data.uri_of(entry["Container"]))
        log = _log(runtime, endpoint, entry)
        log.write(f"No model data: {str(error) or f'{uri}: it took more than {seconds} s'}")
        await log.flush()
        if isinstance(error, model_data.Damaged):
            raise Failed(
                f'Failed to extract model data archive from URL "{uri}". Please ensure that the object '
                "located at the URL is a valid tar.gz archive."
            ) from error
        raise Failed(
            f'Failed to download model data from URL "{uri}". Please ensure that there is an object located '
            "at the URL and that the role passed to CreateModel has permissions to download the model."
        ) from error


async def _pull(runtime: Runtime, endpoint: str, entry: Document, container: Document) -> None:
    try:
        await authorize_pull(_by_role(runtime, entry), container.get("Image"))
    except AWSError as error:
        log = _log(runtime, endpoint, entry)
        log.write(f"No image: {error.message}")
        await log.flush()
        raise Failed(
            f"Failed to pull the image {container['Image']}. Please ensure that the role passed to "
            "CreateModel has permissions to pull it."
        ) from error


def _startup_seconds(entry: Document) -> float:
    if entry.get("ServerlessConfig"):
        return serverless.SETUP_SECONDS
    seconds: float = entry["Variant"].get("ContainerStartupHealthCheckTimeoutInSeconds", _STARTUP_SECONDS)
    return seconds


def _log(runtime: Runtime, endpoint: str, entry: Document) -> LogStream:
    stream = f"{entry['Variant']['VariantName']}/{entry['InstanceId']}"
    return LogStream(_by_role(runtime, entry).aws, group=log_group(endpoint), stream=stream)


def _capture(planned: Document) -> Document | None:
    """What is captured, and by whose role it is written: that of the first variant's model."""
    config: Document | None = planned["DataCaptureConfig"]
    return config and {**config, "RoleArn": planned["Variants"][0].get("RoleArn")}


def _by_role(runtime: Runtime, entry: Document) -> Runtime:
    """As the model's role sees it."""
    return runtime.as_role(entry.get("RoleArn"), session=SESSION)


def _planned(runtime: Runtime, variant: Document) -> Document:
    model = runtime.store.get(MODEL, variant["ModelName"])
    if model is None:
        arn = runtime.arn("sagemaker", f"model/{variant['ModelName']}")
        raise invalid(f'Could not find model "{arn}".')
    return {
        "Variant": variant,
        "Container": model["Resolved"],
        "RoleArn": model.get("ExecutionRoleArn"),
        "InstanceId": f"i-{uuid.uuid4().hex[:17]}",
        "Weight": variant["InitialVariantWeight"],
        "InstanceCount": variant.get("InitialInstanceCount", 0),
        "ServerlessConfig": variant.get("ServerlessConfig"),
        "ResolutionTime": datetime.now(UTC),
    }


def _processes(runtime: Runtime, endpoint: str, variants: Iterable[Document]) -> dict[str, ModelProcess]:
    return {entry["Variant"]["VariantName"]: _process(runtime, endpoint, entry) for entry in variants}


def _models(runtime: Runtime, endpoint: str, entry: Document) -> list[tuple[Document, Path]]:
    """The containers whose files are there before the variant starts, each with its folder."""
    folder, container = variant_folder(runtime, endpoint, entry), entry["Container"]
    if is_multi_model(container):
        return []  # each of them when it is asked for
    if parts := containers_of(container):
        return [(part, folder / part["ContainerHostname"] / "model") for part in parts]
    return [(container, folder / "model")]


def _process(runtime: Runtime, endpoint: str, entry: Document) -> ModelProcess:
    runtime = _by_role(runtime, entry)
    name, container = entry["Variant"]["VariantName"], entry["Container"]
    model_dir = variant_folder(runtime, endpoint, entry) / "model"
    log = _log(runtime, endpoint, entry)
    if is_multi_model(container):
        return MultiModelProcess(
            name=name,
            model_dir=model_dir,
            container=container,
            runtime=runtime,
            environment=partial(server_environment, runtime, container),
            log=log,
        )
    if containers_of(container):
        parts = {
            part["ContainerHostname"]: ModelProcess(
                name=name,
                model_dir=folder,
                environment=server_environment(runtime, part, folder),
                log=log,
                startup_seconds=_startup_seconds(entry),
            )
            for part, folder in _models(runtime, endpoint, entry)
        }
        is_direct = container["IsDirect"]
        return PipelineProcess(name=name, model_dir=model_dir, log=log, parts=parts, is_direct=is_direct)
    environment = server_environment(runtime, container, model_dir)
    if (config := entry.get("ServerlessConfig")) is not None:
        return ServerlessProcess(
            name=name, model_dir=model_dir, environment=environment, log=log, config=config
        )
    return ModelProcess(
        name=name,
        model_dir=model_dir,
        environment=environment,
        log=log,
        startup_seconds=_startup_seconds(entry),
    )


def server_environment(runtime: Runtime, container: Document, model_dir: Path) -> dict[str, str]:
    """What a model's server finds, for an endpoint and for a transform job."""
    given = _given(container.get("Environment", {}))
    paths = (str(packages_of(model_dir)), given.get("PYTHONPATH"))
    return {
        **runtime.environment(),
        "SAGEMAKER_REGION": runtime.region,
        "SAGEMAKER_PROGRAM": "inference.py",
        **given,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "SAGEMAKER_SUBMIT_DIRECTORY": str(model_dir / "code"),
        "SM_MODEL_DIR": str(model_dir),
    }


def _given(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if value != ""}


def variant_folder(runtime: Runtime, endpoint: str, entry: Document) -> Path:
    variant, instance = entry["Variant"]["VariantName"], entry["InstanceId"]
    return endpoint_folder(runtime, endpoint) / str(variant) / str(instance)
