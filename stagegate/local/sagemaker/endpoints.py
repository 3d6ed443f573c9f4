"""Endpoints: a process per production variant, replaced blue/green, brought back after a restart.

What an endpoint runs and what it is being changed to is one document in the store; `_change` is the one place
that writes it. The work behind a status (`Creating`, `Updating`, …) is taken up from the document again when
the server was killed in the middle.
"""

import asyncio
import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from stagegate.local.sagemaker import fleets
from stagegate.local.sagemaker.deployment import BlueGreen, blue_green
from stagegate.local.sagemaker.endpoint_views import described, detail
from stagegate.local.sagemaker.resources import (
    ENDPOINT,
    Document,
    check_name,
    invalid,
    order,
    page,
    pick,
    put_tags,
    refuse,
    select,
    tags_of,
)
from stagegate.local.sagemaker.routing import Fleet, Route, routes_of
from stagegate.local.sagemaker.serverless import check_config
from stagegate.local.sagemaker.variant_usage import VariantUsage
from stagegate.local.service import Announcement, Runtime, Service

_IN_PROGRESS = ("Creating", "Updating", "RollingBack", "Deleting")
_ALARM_SECONDS = 1  # between two looks at the alarms of a deployment
_REWEIGH = "UpdateEndpointWeightsAndCapacities"
_SUMMARY = ("EndpointName", "EndpointArn", "CreationTime", "LastModifiedTime", "EndpointStatus")


class RolledBack(Exception):
    """Why an update is taken back; the text is the endpoint's FailureReason."""


class Endpoints(Service):
    """Endpoints, from CreateEndpoint to DeleteEndpoint."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._routes = routes_of(runtime)
        self._serving: dict[str, Fleet] = {}
        """The fleet of each endpoint's document; one that is to take its place belongs to the update."""
        self._usage = VariantUsage(runtime, self._measured)

    async def start(self) -> None:
        endpoints = self.runtime.store.list(ENDPOINT)
        await fleets.sweep(self.runtime, endpoints)
        for endpoint in endpoints:
            name = endpoint["EndpointName"]
            match endpoint["EndpointStatus"]:
                case "Creating":
                    self.spawn(self._create(name), name=f"create {name}")
                case "Deleting":
                    self.spawn(self._delete(name), name=f"delete {name}")
                case "InService":
                    self._resume(endpoint)
                case "Updating" if "Pending" in endpoint:
                    self._resume(endpoint)
                    self.spawn(self._update(name), name=f"update {name}")
                case "Updating" | "RollingBack":
                    self._resume(endpoint)
                    self._change(name, EndpointStatus="InService", Pending=None)

        self.spawn(self._usage.measure(), name="measure endpoints")

    async def stop(self) -> None:
        await super().stop()
        await asyncio.gather(*(fleets.end(fleet) for fleet in self._serving.values()))

    def create_endpoint(
        self,
        *,
        EndpointName: str,
        EndpointConfigName: str,
        DeploymentConfig: Document | None = None,
        Tags: list[dict[str, str]] | None = None,
    ) -> Document:
        check_name(EndpointName, member="endpointName")
        arn = self.runtime.arn("sagemaker", f"endpoint/{EndpointName}")
        if self.runtime.store.get(ENDPOINT, EndpointName):
            raise invalid(f'Cannot create already existing endpoint "{arn}".')
        planned = fleets.plan(self.runtime, EndpointConfigName)
        planned |= self._fate("CreateEndpoint", EndpointName, EndpointConfigName)
        _policy(DeploymentConfig, planned)
        put_tags(self.runtime.store, arn, Tags)
        self._change(
            EndpointName,
            EndpointArn=arn,
            EndpointStatus="Creating",
            CreationTime=datetime.now(UTC),
            Fleet=planned,
            LastDeploymentConfig=DeploymentConfig,
        )
        self.spawn(self._create(EndpointName), name=f"create {EndpointName}")
        return {"EndpointArn": arn}

    def describe_endpoint(self, *, EndpointName: str) -> Document:
        return described(self._endpoint(EndpointName))

    def list_endpoints(
        self,
        *,
        SortBy: str = "CreationTime",
        SortOrder: str = "Descending",
        NextToken: str | None = None,
        MaxResults: int | None = None,
        NameContains: str | None = None,
        CreationTimeBefore: datetime | None = None,
        CreationTimeAfter: datetime | None = None,
        LastModifiedTimeBefore: datetime | None = None,
        LastModifiedTimeAfter: datetime | None = None,
        StatusEquals: str | None = None,
    ) -> Document:
        found = select(
            self.runtime.store.list(ENDPOINT),
            name="EndpointName",
            contains=NameContains,
            created_after=CreationTimeAfter,
            created_before=CreationTimeBefore,
            modified_after=LastModifiedTimeAfter,
            modified_before=LastModifiedTimeBefore,
            equal={"EndpointStatus": StatusEquals},
        )
        by = {"Name": "EndpointName", "Status": "EndpointStatus"}.get(SortBy, SortBy)
        ordered = order(found, by=by, descending=SortOrder == "Descending")
        return page(
            [pick(endpoint, _SUMMARY) for endpoint in ordered],
            member="Endpoints",
            token=NextToken,
            size=MaxResults,
        )

    def update_endpoint(
        self,
        *,
        EndpointName: str,
        EndpointConfigName: str,
        RetainAllVariantProperties: bool = False,
        ExcludeRetainedVariantProperties: list[dict[str, str]] | None = None,
        DeploymentConfig: Document | None = None,
        RetainDeploymentConfig: bool = False,
    ) -> Document:
        endpoint = self._changeable(EndpointName)
        planned = fleets.plan(self.runtime, EndpointConfigName)
        if RetainAllVariantProperties:
            excluded = {entry["VariantPropertyType"] for entry in ExcludeRetainedVariantProperties or ()}
            planned = fleets.with_properties_of(endpoint["Fleet"], planned, excluded=excluded)
        planned |= self._fate("UpdateEndpoint", EndpointName, EndpointConfigName)
        config = endpoint.get("LastDeploymentConfig") if RetainDeploymentConfig else DeploymentConfig
        _policy(config, planned)
        self._change(
            EndpointName,
            EndpointStatus="Updating",
            FailureReason=None,
            Pending={"Fleet": planned, "DeploymentConfig": config, "StartTime": datetime.now(UTC)},
        )
        self.spawn(self._update(EndpointName), name=f"update {EndpointName}")
        return {"EndpointArn": endpoint["EndpointArn"]}

    def update_endpoint_weights_and_capacities(
        self, *, EndpointName: str, DesiredWeightsAndCapacities: list[Document]
    ) -> Document:
        endpoint = self._changeable(EndpointName)
        planned = endpoint["Fleet"]
        desired = {entry["VariantName"]: entry for entry in DesiredWeightsAndCapacities}
        if unknown := sorted(desired.keys() - fleets.weights(fleets.entries(planned)).keys()):
            raise invalid(
                f"The variant name(s) {', '.join(f'{name!r}' for name in unknown)} is/are not present within "
                f'endpoint configuration "{planned["EndpointConfigName"]}".'
            )
        for entry in fleets.entries(planned):
            wanted = desired.get(entry["Variant"]["VariantName"], {})
            entry["Weight"] = wanted.get("DesiredWeight", entry["Weight"])
            if entry.get("ServerlessConfig"):
                entry["ServerlessConfig"] = _serverless(entry, wanted)
            else:
                refuse([("ServerlessUpdateConfig", wanted.get("ServerlessUpdateConfig"))], operation=_REWEIGH)
                entry["InstanceCount"] = wanted.get("DesiredInstanceCount", entry["InstanceCount"])
        self._change(EndpointName, EndpointStatus="Updating", FailureReason=None, Fleet=planned)
        self.spawn(self._reweigh(EndpointName), name=f"reweigh {EndpointName}")
        return {"EndpointArn": endpoint["EndpointArn"]}

    def delete_endpoint(self, *, EndpointName: str) -> Document:
        endpoint = self._endpoint(EndpointName)
        if endpoint["EndpointStatus"] in _IN_PROGRESS:
            raise invalid(f'Cannot update in-progress endpoint "{endpoint["EndpointArn"]}".')
        self._routes.delete(EndpointName)
        self._change(EndpointName, EndpointStatus="Deleting")
        self.spawn(self._delete(EndpointName), name=f"delete {EndpointName}")
        return {}

    def _measured(self) -> list[tuple[str, Document, Fleet]]:
        return [(name, self._endpoint(name)["Fleet"], fleet) for name, fleet in self._serving.items()]

    def _fate(self, operation: str, name: str, config_name: str) -> Document:
        members = {"EndpointName": name, "EndpointConfigName": config_name}
        return self.runtime.fate("sagemaker", operation, members)

    def _endpoint(self, name: str) -> Document:
        endpoint = self.runtime.store.get(ENDPOINT, name)
        if endpoint is None:
            raise invalid(f'Could not find endpoint "{self.runtime.arn("sagemaker", f"endpoint/{name}")}".')
        return endpoint

    def _changeable(self, name: str) -> Document:
        endpoint = self._endpoint(name)
        if endpoint["EndpointStatus"] in _IN_PROGRESS:
            raise invalid(f'Cannot update in-progress endpoint "{endpoint["EndpointArn"]}".')
        if endpoint["EndpointStatus"] == "Failed":
            raise invalid(
                f'Cannot update failed endpoint "{endpoint["EndpointArn"]}": it can only be deleted.'
            )
        return endpoint

    def _change(self, name: str, **members: Any) -> Document:
        """Write the endpoint, and say so when its status is another one: the one place where it changes."""
        before = self.runtime.store.get(ENDPOINT, name) or {"EndpointName": name}
        changed = {**before, **members, "LastModifiedTime": datetime.now(UTC)}
        endpoint = {member: value for member, value in changed.items() if value is not None}
        self.runtime.store.put(ENDPOINT, name, endpoint)
        if endpoint["EndpointStatus"] != before.get("EndpointStatus"):
            self._announce(endpoint)
        return endpoint

    def _announce(self, endpoint: Document) -> None:
        arn = endpoint["EndpointArn"]
        self.runtime.announce(
            Announcement(
                source="aws.sagemaker",
                detail_type="SageMaker Endpoint State Change",
                detail={**detail(endpoint), "Tags": tags_of(self.runtime.store, arn)},
                resources=(arn,),
            )
        )

    def _serve(self, name: str, fleet: Fleet) -> None:
        """All traffic goes to `fleet`."""
        self._serving[name] = fleet
        self._routes.put(name, Route(fleets=((fleet, 1.0),)))

    def _resume(self, endpoint: Document) -> None:
        name, planned = endpoint["EndpointName"], endpoint["Fleet"]
        fleet = fleets.fleet(self.runtime, name, planned)
        self._serve(name, fleet)
        self.spawn(fleets.resume(self.runtime, name, planned, fleet), name=f"resume {name}")

    async def _create(self, name: str) -> None:
        planned = self._endpoint(name)["Fleet"]
        await self.runtime.store.committed()
        fleet = fleets.fleet(self.runtime, name, planned)
        try:
            await fleets.start(self.runtime, name, planned, fleet)
        except fleets.Failed as failure:
            self._change(name, EndpointStatus="Failed", FailureReason=str(failure))
            return
        self._serve(name, fleet)
        self._change(name, EndpointStatus="InService")

    async def _delete(self, name: str) -> None:
        endpoint = self._endpoint(name)
        await self.runtime.store.committed()
        if (fleet := self._serving.pop(name, None)) is not None:
            await fleets.stop(self.runtime, name, endpoint["Fleet"], fleet)
        folder = fleets.endpoint_folder(self.runtime, name)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        self.runtime.store.delete(ENDPOINT, name)
        self._announce({**endpoint, "EndpointStatus": "Deleted"})
        put_tags(self.runtime.store, endpoint["EndpointArn"], None)

    async def _reweigh(self, name: str) -> None:
        planned = self._endpoint(name)["Fleet"]
        fleet = replace(
            self._serving[name],
            weights=fleets.weights(planned["Variants"]),
            shadow_weights=fleets.weights(planned.get("ShadowVariants", ())),
        )
        fleets.configure(planned, fleet)
        self._serve(name, fleet)
        self._change(name, EndpointStatus="InService")

    async def _update(self, name: str) -> None:
        endpoint = self._endpoint(name)
        planned, config = endpoint["Pending"]["Fleet"], endpoint["Pending"]["DeploymentConfig"]
        self._say_where(name, "Creating")  # again, where an earlier server was further
        await self.runtime.store.committed()
        old = self._serving[name]
        new = fleets.fleet(self.runtime, name, planned)
        policy = _policy(config, planned)
        try:
            async with asyncio.timeout(policy.maximum_seconds):
                await fleets.start(self.runtime, name, planned, new)
                await self._shift(name, old, new, policy)
        except (fleets.Failed, RolledBack, TimeoutError) as failure:
            reason = str(failure) or f"The deployment took more than {policy.maximum_seconds:g} seconds."
            self._serve(name, old)
            self._change(name, EndpointStatus="RollingBack", FailureReason=reason)
            await fleets.stop(self.runtime, name, planned, new)
            self._change(name, EndpointStatus="InService", Pending=None)
        except asyncio.CancelledError:
            await fleets.end(new)
            raise
        else:
            self._serve(name, new)
            self._change(
                name, EndpointStatus="InService", Fleet=planned, LastDeploymentConfig=config, Pending=None
            )
            await fleets.stop(self.runtime, name, endpoint["Fleet"], old)

    def _say_where(self, name: str, status: str) -> None:
        """Write down how far the variants are that an update brings."""
        self._change(name, Pending={**self._endpoint(name)["Pending"], "VariantStatus": status})

    async def _shift(self, name: str, old: Fleet, new: Fleet, policy: BlueGreen) -> None:
        """Move the traffic, watched by the alarms; requests that the old fleet has are answered by it."""
        for share in policy.shares:
            self._routes.put(name, Route(fleets=((new, share), (old, 1 - share))))
            self._say_where(name, "Baking")
            await self._bake(policy.wait_seconds, policy)
        await self._bake(policy.termination_seconds, policy)

    async def _bake(self, seconds: float, policy: BlueGreen) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while policy.alarms:
            alarms = await self.runtime.aws(
                "cloudwatch", "DescribeAlarms", {"AlarmNames": list(policy.alarms), "StateValue": "ALARM"}
            )
            # moto forgets the state that was asked for where names are given
            found = (alarm for alarm in alarms.get("MetricAlarms", ()) if alarm["StateValue"] == "ALARM")
            if raised := sorted(alarm["AlarmName"] for alarm in found):
                raise RolledBack(
                    f"One or more alarms are in ALARM state: {', '.join(raised)}. The update was rolled back."
                )
            if loop.time() >= end:
                return
            await asyncio.sleep(min(_ALARM_SECONDS, end - loop.time()))
        await asyncio.sleep(end - loop.time())


def _policy(config: Mapping[str, Any] | None, planned: Document) -> BlueGreen:
    instances = sum(entry["InstanceCount"] for entry in planned["Variants"])
    return blue_green(config, instances=max(1, instances))  # a serverless variant has none


def _serverless(entry: Document, wanted: Document) -> Document:
    """The variant's `ServerlessConfig` with what is wanted of it."""
    name = entry["Variant"]["VariantName"]
    if "DesiredInstanceCount" in wanted:
        raise invalid(f'Variant "{name}" is serverless: DesiredInstanceCount cannot be specified')
    config: Document = {**entry["ServerlessConfig"], **wanted.get("ServerlessUpdateConfig", {})}
    check_config(name, config)
    return config
