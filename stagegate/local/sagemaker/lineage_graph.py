"""The lineage graph in the store: entities, the associations between them, and what is reached from one.

An entity is an artifact, an action, a context, or the trial component of a job; after "Lineage Tracking
Entities" in the SageMaker Developer Guide.
"""

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from stagegate.local.sagemaker.resources import Document, invalid
from stagegate.local.service import AWSError, Runtime

_ENTITY = "sagemaker/lineage-entity"
_ASSOCIATION = "sagemaker/lineage-association"
ARTIFACT, ACTION, CONTEXT, TRIAL_COMPONENT = "Artifact", "Action", "Context", "TrialComponent"
_IN_ARN = {TRIAL_COMPONENT: "experiment-trial-component"}
_MAX_PROPERTIES = 30


class Graph:
    """Entities by ARN. Each has a `LineageType` (ARTIFACT, …), a `Type` ("DataSet"), a `Name`, a `Source`."""

    def __init__(self, runtime: Runtime) -> None:
        self._store = runtime.store
        self._arn = runtime.arn

    def arn(self, lineage_type: str, name: str) -> str:
        return self._arn("sagemaker", f"{_IN_ARN.get(lineage_type, lineage_type.lower())}/{name}")

    def artifact_arn(self, source: Document) -> str:
        """One artifact for each source, as on AWS: the ARN follows from the URI and its hashes."""
        ids = sorted(f"{entry['SourceIdType']}={entry['Value']}" for entry in source.get("SourceTypes", ()))
        digest = hashlib.sha256("\n".join([source["SourceUri"], *ids]).encode()).hexdigest()
        return self.arn(ARTIFACT, digest[:32])

    def find(self, arn: str) -> Document | None:
        return self._store.get(_ENTITY, arn)

    def get(self, arn: str) -> Document:
        """Raises ResourceNotFound."""
        if (entity := self.find(arn)) is None:
            raise AWSError("ResourceNotFound", f"Resource '{arn}' does not exist.")
        return entity

    def entities(self, lineage_type: str) -> list[Document]:
        return [entity for entity in self._store.list(_ENTITY) if entity["LineageType"] == lineage_type]

    def create(
        self, lineage_type: str, arn: str, *, name: str | None, type: str, source: Document, **members: Any
    ) -> str:
        """Raises ValidationException where the entity is there already."""
        if self.find(arn) is not None:
            raise invalid(f"{lineage_type} already exists: {arn}")
        check_properties(members.get("Properties"))
        self.put(
            {
                "Arn": arn,
                "LineageType": lineage_type,
                "Type": type,
                "Name": name,
                "Source": source,
                "CreationTime": datetime.now(UTC),
                **members,
            }
        )
        return arn

    def put(self, entity: Document) -> None:
        known = {member: value for member, value in entity.items() if value is not None}
        self._store.put(_ENTITY, entity["Arn"], {**known, "LastModifiedTime": datetime.now(UTC)})

    def delete(self, arn: str) -> None:
        """Raises ResourceNotFound, and ValidationException where something is associated with it still."""
        self.get(arn)
        for association in self.associations():
            if arn in (association["SourceArn"], association["DestinationArn"]):
                raise invalid(f"{arn} has associations; delete them first with DeleteAssociation.")
        self._store.delete(_ENTITY, arn)

    def associate(self, source: str, destination: str, association_type: str) -> None:
        key = _between(source, destination)
        if (self._store.get(_ASSOCIATION, key) or {}).get("AssociationType") == association_type:
            return
        association = {
            "SourceArn": source,
            "DestinationArn": destination,
            "AssociationType": association_type,
            "CreationTime": datetime.now(UTC),
        }
        self._store.put(_ASSOCIATION, key, association)

    def disassociate(self, source: str, destination: str) -> bool:
        """Whether there was an association."""
        return self._store.delete(_ASSOCIATION, _between(source, destination))

    def associations(self) -> list[Document]:
        return self._store.list(_ASSOCIATION)

    def reach(
        self, start: str, *, direction: str, depth: int, wanted: Callable[[Document], bool]
    ) -> tuple[list[Document], list[Document]]:
        """The entities that `wanted` takes and that are at most `depth` associations from `start`, the near
        ones first, and the associations that lead there. `direction` is Ascendants, Descendants or Both."""
        associations = self.associations()
        found: dict[str, Document] = {}
        edges: dict[tuple[str, str], Document] = {}
        for ascending in (True, False):
            if direction not in ("Both", "Ascendants" if ascending else "Descendants"):
                continue
            seen = {start}
            for association, arn in _walk(start, associations, ascending=ascending, depth=depth):
                edges[association["SourceArn"], association["DestinationArn"]] = association
                if arn not in seen:
                    seen.add(arn)
                    if (entity := self.find(arn)) is not None and wanted(entity):
                        found[arn] = entity
        return list(found.values()), list(edges.values())


def _walk(
    start: str, associations: list[Document], *, ascending: bool, depth: int
) -> Iterator[tuple[Document, str]]:
    """Each association once, breadth first, with the ARN to which it leads."""
    near, far = ("DestinationArn", "SourceArn") if ascending else ("SourceArn", "DestinationArn")
    leaving: dict[str, list[Document]] = {}
    for association in associations:
        leaving.setdefault(association[near], []).append(association)
    level, seen = [start], {start}
    for _ in range(depth):
        following: list[str] = []
        for arn in level:
            for association in leaving.get(arn, ()):
                yield association, association[far]
                if association[far] not in seen:
                    seen.add(association[far])
                    following.append(association[far])
        level = following


def _between(source: str, destination: str) -> str:
    return f"{source}|{destination}"


def check_properties(properties: dict[str, str] | None) -> None:
    if properties and len(properties) > _MAX_PROPERTIES:
        raise invalid(f"Properties: {len(properties)} entries given, at most {_MAX_PROPERTIES} are allowed")
