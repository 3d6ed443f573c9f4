"""SageMaker ML Lineage Tracking: artifacts, actions and contexts, how they hang together, and queries.

`lineage_records.py` writes what SageMaker writes by itself; a user adds to it by these operations.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from stagegate.local.sagemaker.lineage_graph import (
    ACTION,
    ARTIFACT,
    CONTEXT,
    TRIAL_COMPONENT,
    Graph,
    check_properties,
)
from stagegate.local.sagemaker.lineage_records import Records
from stagegate.local.sagemaker.resources import Document, order, page, pick, put_tags
from stagegate.local.service import Runtime, Service

_MAX_DEPTH = 10
_MAX_VERTICES = 50
_DESCRIBED = (
    *("Source", "Description", "Status", "Properties", "MetadataProperties"),
    *("CreationTime", "LastModifiedTime"),
)
_NOBODY: Document = {}  # there is no Studio user here


class Lineage(Service):
    """The lineage entities and their associations."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._graph = Graph(runtime)
        runtime.listeners.append(Records(runtime, self._graph).hear)

    def create_artifact(
        self,
        *,
        Source: Document,
        ArtifactType: str,
        ArtifactName: str | None = None,
        Properties: dict[str, str] | None = None,
        MetadataProperties: Document | None = None,
        Tags: list[dict[str, str]] | None = None,
    ) -> Document:
        arn = self._graph.artifact_arn(Source)
        return self._create(
            ARTIFACT,
            arn,
            ArtifactName,
            ArtifactType,
            Source,
            Tags,
            Properties=Properties,
            MetadataProperties=MetadataProperties,
        )

    def create_action(
        self,
        *,
        ActionName: str,
        Source: Document,
        ActionType: str,
        Description: str | None = None,
        Status: str | None = None,
        Properties: dict[str, str] | None = None,
        MetadataProperties: Document | None = None,
        Tags: list[dict[str, str]] | None = None,
    ) -> Document:
        arn = self._graph.arn(ACTION, ActionName)
        return self._create(
            ACTION,
            arn,
            ActionName,
            ActionType,
            Source,
            Tags,
            Description=Description,
            Status=Status,
            Properties=Properties,
            MetadataProperties=MetadataProperties,
        )

    def create_context(
        self,
        *,
        ContextName: str,
        Source: Document,
        ContextType: str,
        Description: str | None = None,
        Properties: dict[str, str] | None = None,
        Tags: list[dict[str, str]] | None = None,
    ) -> Document:
        arn = self._graph.arn(CONTEXT, ContextName)
        return self._create(
            CONTEXT,
            arn,
            ContextName,
            ContextType,
            Source,
            Tags,
            Description=Description,
            Properties=Properties,
        )

    def describe_artifact(self, *, ArtifactArn: str) -> Document:
        return _described(self._graph.get(ArtifactArn))

    def describe_action(self, *, ActionName: str) -> Document:
        return _described(self._graph.get(self._arn(ACTION, ActionName)))

    def describe_context(self, *, ContextName: str) -> Document:
        return _described(self._graph.get(self._arn(CONTEXT, ContextName)))

    def update_artifact(
        self, *, ArtifactArn: str, ArtifactName: str | None = None, **changes: Any
    ) -> Document:
        return self._update(ARTIFACT, ArtifactArn, **changes, Name=ArtifactName)

    def update_action(self, *, ActionName: str, **changes: Any) -> Document:
        return self._update(ACTION, self._arn(ACTION, ActionName), **changes)

    def update_context(self, *, ContextName: str, **changes: Any) -> Document:
        return self._update(CONTEXT, self._arn(CONTEXT, ContextName), **changes)

    def delete_artifact(self, *, ArtifactArn: str | None = None, Source: Document | None = None) -> Document:
        arn = ArtifactArn or self._graph.artifact_arn(Source or {"SourceUri": ""})
        return self._delete(ARTIFACT, arn)

    def delete_action(self, *, ActionName: str) -> Document:
        return self._delete(ACTION, self._arn(ACTION, ActionName))

    def delete_context(self, *, ContextName: str) -> Document:
        return self._delete(CONTEXT, self._arn(CONTEXT, ContextName))

    def list_artifacts(self, *, ArtifactType: str | None = None, **filters: Any) -> Document:
        return self._list(ARTIFACT, type=ArtifactType, **filters)

    def list_actions(self, *, ActionType: str | None = None, **filters: Any) -> Document:
        return self._list(ACTION, type=ActionType, **filters)

    def list_contexts(self, *, ContextType: str | None = None, **filters: Any) -> Document:
        return self._list(CONTEXT, type=ContextType, **filters)

    def add_association(
        self, *, SourceArn: str, DestinationArn: str, AssociationType: str = "AssociatedWith"
    ) -> Document:
        for arn in (SourceArn, DestinationArn):
            self._graph.get(arn)
        self._graph.associate(SourceArn, DestinationArn, AssociationType)
        return {"SourceArn": SourceArn, "DestinationArn": DestinationArn}

    def delete_association(self, *, SourceArn: str, DestinationArn: str) -> Document:
        if not self._graph.disassociate(SourceArn, DestinationArn):
            self._graph.get(f"{SourceArn} -> {DestinationArn}")
        return {"SourceArn": SourceArn, "DestinationArn": DestinationArn}

    def list_associations(
        self,
        *,
        SourceArn: str | None = None,
        DestinationArn: str | None = None,
        SourceType: str | None = None,
        DestinationType: str | None = None,
        AssociationType: str | None = None,
        CreatedAfter: datetime | None = None,
        CreatedBefore: datetime | None = None,
        SortBy: str = "CreationTime",
        SortOrder: str = "Descending",
        NextToken: str | None = None,
        MaxResults: int | None = None,
    ) -> Document:
        found = [
            {**association, **self._end("Source", association), **self._end("Destination", association)}
            for association in self._graph.associations()
            if SourceArn in (None, association["SourceArn"])
            and DestinationArn in (None, association["DestinationArn"])
            and AssociationType in (None, association["AssociationType"])
            and _is_between(association, CreatedAfter, CreatedBefore)
        ]
        of_types = [
            summary
            for summary in found
            if self._is_of(SourceType, summary["SourceArn"])
            and self._is_of(DestinationType, summary["DestinationArn"])
        ]
        ordered = order(of_types, by=SortBy, descending=SortOrder == "Descending")
        return page(ordered, member="AssociationSummaries", token=NextToken, size=MaxResults)

    def query_lineage(
        self,
        *,
        StartArns: list[str] | None = None,
        Direction: str = "Both",
        IncludeEdges: bool = True,
        Filters: Document | None = None,
        MaxDepth: int = _MAX_DEPTH,
        MaxResults: int | None = None,
        NextToken: str | None = None,
    ) -> Document:
        filters = Filters or {}
        if StartArns:
            self._graph.get(StartArns[0])
            vertices, edges = self._graph.reach(
                StartArns[0],
                direction=Direction,
                depth=MaxDepth,
                wanted=lambda entity: _matches(entity, filters),
            )
        else:
            kinds = (ARTIFACT, ACTION, CONTEXT, TRIAL_COMPONENT)
            all_of_them = [entity for kind in kinds for entity in self._graph.entities(kind)]
            vertices, edges = [entity for entity in all_of_them if _matches(entity, filters)], []
        answer = page(
            [
                {"Arn": vertex["Arn"], "Type": vertex["Type"], "LineageType": vertex["LineageType"]}
                for vertex in vertices
            ],
            member="Vertices",
            token=NextToken,
            size=MaxResults,
            default=_MAX_VERTICES,
        )
        members = ("SourceArn", "DestinationArn", "AssociationType")
        return {**answer, "Edges": [pick(edge, members) for edge in edges] if IncludeEdges else []}

    def _arn(self, lineage_type: str, name_or_arn: str) -> str:
        return name_or_arn if name_or_arn.startswith("arn:") else self._graph.arn(lineage_type, name_or_arn)

    def _create(
        self,
        lineage_type: str,
        arn: str,
        name: str | None,
        type: str,
        source: Document,
        tags: list[dict[str, str]] | None,
        **members: Any,
    ) -> Document:
        self._graph.create(lineage_type, arn, name=name, type=type, source=source, **members)
        put_tags(self.runtime.store, arn, tags)
        return {f"{lineage_type}Arn": arn}

    def _update(
        self,
        lineage_type: str,
        arn: str,
        *,
        Properties: dict[str, str] | None = None,
        PropertiesToRemove: list[str] | None = None,
        **changes: Any,
    ) -> Document:
        entity = self._graph.get(arn)
        kept = entity.get("Properties", {}) if Properties is None else Properties
        properties = {name: value for name, value in kept.items() if name not in (PropertiesToRemove or ())}
        check_properties(properties)
        given = {member: value for member, value in changes.items() if value is not None}
        self._graph.put({**entity, **given, "Properties": properties})
        return {f"{lineage_type}Arn": arn}

    def _delete(self, lineage_type: str, arn: str) -> Document:
        self._graph.delete(arn)
        put_tags(self.runtime.store, arn, None)
        return {f"{lineage_type}Arn": arn}

    def _list(
        self,
        lineage_type: str,
        *,
        type: str | None,
        SourceUri: str | None = None,
        CreatedAfter: datetime | None = None,
        CreatedBefore: datetime | None = None,
        SortBy: str = "CreationTime",
        SortOrder: str = "Descending",
        NextToken: str | None = None,
        MaxResults: int | None = None,
    ) -> Document:
        found = [
            entity
            for entity in self._graph.entities(lineage_type)
            if type in (None, entity["Type"])
            and SourceUri in (None, entity["Source"]["SourceUri"])
            and _is_between(entity, CreatedAfter, CreatedBefore)
        ]
        ordered = order(found, by=SortBy, descending=SortOrder == "Descending")
        members = ("Source", "Status", "CreationTime", "LastModifiedTime")
        return page(
            [{**_identity(entity), **pick(entity, members)} for entity in ordered],
            member=f"{lineage_type}Summaries",
            token=NextToken,
            size=MaxResults,
        )

    def _end(self, end: str, association: Document) -> Document:
        """The type and the name of the entity at one end; a trial component's type is its job's."""
        entity = self._graph.find(association[f"{end}Arn"])
        if entity is None:
            return {}
        source = entity.get("Source", {})  # a user's trial component has none
        type_ = (
            source["SourceType"] if entity["LineageType"] == TRIAL_COMPONENT and source else entity["Type"]
        )
        return {f"{end}Type": type_, **({f"{end}Name": entity["Name"]} if "Name" in entity else {})}

    def _is_of(self, wanted: str | None, arn: str) -> bool:
        """Whether an entity is of a type ("Model") or of a kind of entity ("Artifact")."""
        entity = self._graph.find(arn) or {}
        kinds = (entity.get("Type"), entity.get("LineageType"), entity.get("Source", {}).get("SourceType"))
        return wanted is None or wanted in kinds


def _identity(entity: Document) -> Document:
    kind = entity["LineageType"]
    named = {f"{kind}Name": entity["Name"]} if "Name" in entity else {}
    return {f"{kind}Arn": entity["Arn"], f"{kind}Type": entity["Type"], **named}


def _described(entity: Document) -> Document:
    return {**_identity(entity), **pick(entity, _DESCRIBED), "CreatedBy": _NOBODY}


def _is_between(document: Document, after: datetime | None, before: datetime | None) -> bool:
    created = document["CreationTime"]
    return (after is None or created >= after) and (before is None or created <= before)


def _matches(entity: Document, filters: Mapping[str, Any]) -> bool:
    properties: dict[str, str] = entity.get("Properties", {})
    modified = {"CreationTime": entity["LastModifiedTime"]}
    return (
        entity["Type"] in filters.get("Types", [entity["Type"]])
        and entity["LineageType"] in filters.get("LineageTypes", [entity["LineageType"]])
        and _is_between(entity, filters.get("CreatedAfter"), filters.get("CreatedBefore"))
        and _is_between(modified, filters.get("ModifiedAfter"), filters.get("ModifiedBefore"))
        and all(properties.get(name) == value for name, value in filters.get("Properties", {}).items())
    )
