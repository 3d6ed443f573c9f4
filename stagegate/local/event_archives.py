"""EventBridge's archives, and replays of what they keep; a replay goes on after a restart where it was."""

import json
import re
import uuid
from datetime import UTC, datetime
from typing import Any

from stagegate.local import event_history, event_patterns
from stagegate.local.event_buses import find_bus, invalid
from stagegate.local.event_history import ARCHIVE, event_time
from stagegate.local.event_routes import Routes
from stagegate.local.pages import page
from stagegate.local.service import AWSError, Runtime, Service

REPLAY = "events/replay"
DELIVERY = "events/replayed-delivery"

_ARCHIVE_NAME = re.compile(r"[.\-_A-Za-z0-9]{1,48}")
_REPLAY_NAME = re.compile(r"[.\-_A-Za-z0-9]{1,64}")
_MOST_REPLAYS = 10  # at a time
_OF_AN_ARCHIVE = ("ArchiveName", "EventSourceArn", "State", "RetentionDays", "CreationTime")
_SETTINGS = ("Description", "EventPattern", "KmsKeyIdentifier")
_UNDER_WAY = ("STARTING", "RUNNING", "CANCELLING")

Document = dict[str, Any]


class EventArchives(Service):
    """Of EventBridge's API, what is about archives and replays."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._routes = Routes(self, DELIVERY)

    async def start(self) -> None:
        self._routes.resume()
        for replay in self.runtime.store.list(REPLAY):
            if replay["State"] in _UNDER_WAY:
                self._run(replay)

    def create_archive(
        self,
        *,
        ArchiveName: str,
        EventSourceArn: str,
        Description: str | None = None,
        EventPattern: str | None = None,
        RetentionDays: int = 0,
        KmsKeyIdentifier: str | None = None,
    ) -> Document:
        if _ARCHIVE_NAME.fullmatch(ArchiveName) is None:
            raise invalid(f"Archive name '{ArchiveName}' should have 1 to 48 of A-Z a-z 0-9 . - _")
        if self.runtime.store.get(ARCHIVE, ArchiveName):
            raise AWSError("ResourceAlreadyExistsException", f"Archive {ArchiveName} already exists.")
        archive = _changed(
            {
                "ArchiveName": ArchiveName,
                "EventSourceArn": EventSourceArn,
                "State": "ENABLED",
                "RetentionDays": 0,
                "CreationTime": datetime.now(UTC),
                "bus": find_bus(self.runtime, EventSourceArn)["Name"],
                "stream": f"{ARCHIVE}/{uuid.uuid4()}",
            },
            Description=Description,
            EventPattern=EventPattern,
            RetentionDays=RetentionDays,
            KmsKeyIdentifier=KmsKeyIdentifier,
        )
        return self._put(archive)

    def update_archive(
        self,
        *,
        ArchiveName: str,
        Description: str | None = None,
        EventPattern: str | None = None,
        RetentionDays: int | None = None,
        KmsKeyIdentifier: str | None = None,
    ) -> Document:
        """Changes what is given; the empty text takes away."""
        archive = _changed(
            self._archive(ArchiveName),
            Description=Description,
            EventPattern=EventPattern,
            RetentionDays=RetentionDays,
            KmsKeyIdentifier=KmsKeyIdentifier,
        )
        return self._put(archive)

    def describe_archive(self, *, ArchiveName: str) -> Document:
        archive = self._archive(ArchiveName)
        return {
            "ArchiveArn": self._archive_arn(ArchiveName),
            **self._listed(archive),
            **{member: archive[member] for member in _SETTINGS if member in archive},
        }

    def list_archives(
        self,
        *,
        NamePrefix: str = "",
        EventSourceArn: str | None = None,
        State: str | None = None,
        NextToken: str | None = None,
        Limit: int = 100,
    ) -> Document:
        if (NamePrefix != "") + (EventSourceArn is not None) + (State is not None) > 1:
            raise invalid(
                "At most one filter is allowed for ListArchives. "
                "Use either : State, EventSourceArn, or NamePrefix."
            )
        archives = [
            self._listed(archive)
            for archive in self.runtime.store.list(ARCHIVE, prefix=NamePrefix)
            if EventSourceArn in (None, archive["EventSourceArn"]) and State in (None, archive["State"])
        ]
        return page(
            "Archives",
            sorted(archives, key=lambda it: str(it["ArchiveName"])),
            NextToken,
            Limit,
            invalid="ValidationException",
        )

    def delete_archive(self, *, ArchiveName: str) -> Document:
        archive = self._archive(ArchiveName)
        self.runtime.store.delete(ARCHIVE, ArchiveName)
        self.runtime.store.delete_stream(archive["stream"])
        return {}

    def start_replay(
        self,
        *,
        ReplayName: str,
        EventSourceArn: str,
        EventStartTime: datetime,
        EventEndTime: datetime,
        Destination: Document,
        Description: str | None = None,
    ) -> Document:
        if _REPLAY_NAME.fullmatch(ReplayName) is None:
            raise invalid(f"Replay name '{ReplayName}' should have 1 to 64 of A-Z a-z 0-9 . - _")
        if ":archive/" not in EventSourceArn:
            raise invalid("Parameter EventSourceArn is not valid. Reason: Must contain an archive ARN.")
        if ":event-bus/" not in Destination["Arn"]:
            raise invalid("Parameter Destination.Arn is not valid. Reason: Must contain an event bus ARN.")
        if self.runtime.store.get(REPLAY, ReplayName):
            raise AWSError("ResourceAlreadyExistsException", f"Replay {ReplayName} already exists.")
        bus = find_bus(self.runtime, Destination["Arn"])["Name"]
        archive = self._archive(EventSourceArn.partition(":archive/")[2])
        if archive["bus"] != bus:
            raise invalid(
                "Parameter Destination.Arn is not valid. Reason: Cross event bus replay is not permitted."
            )
        if EventStartTime >= EventEndTime:
            raise invalid(
                "Parameter EventEndTime is not valid. Reason: EventStartTime must be before EventEndTime."
            )
        under_way = sum(replay["State"] in _UNDER_WAY for replay in self.runtime.store.list(REPLAY))
        if under_way >= _MOST_REPLAYS:
            raise AWSError(
                "LimitExceededException", "The requested resource exceeds the maximum number allowed."
            )
        replay = {
            "ReplayName": ReplayName,
            **({} if Description is None else {"Description": Description}),
            "State": "STARTING",
            "EventSourceArn": EventSourceArn,
            "Destination": Destination,
            "EventStartTime": EventStartTime,
            "EventEndTime": EventEndTime,
            "ReplayStartTime": datetime.now(UTC),
            "bus": bus,
            "last": None,
        }
        self.runtime.store.put(REPLAY, ReplayName, replay)
        self._run(replay)
        arn = self._replay_arn(ReplayName)
        return {"ReplayArn": arn, "State": "STARTING", "ReplayStartTime": replay["ReplayStartTime"]}

    def describe_replay(self, *, ReplayName: str) -> Document:
        replay = self._replay(ReplayName)
        shown = {member: value for member, value in replay.items() if member not in ("bus", "last")}
        return {"ReplayArn": self._replay_arn(ReplayName), **shown}

    def list_replays(
        self,
        *,
        NamePrefix: str = "",
        State: str | None = None,
        EventSourceArn: str | None = None,
        NextToken: str | None = None,
        Limit: int = 100,
    ) -> Document:
        if (NamePrefix != "") + (EventSourceArn is not None) + (State is not None) > 1:
            raise invalid(
                "At most one filter is allowed for ListReplays. "
                "Use either : State, EventSourceArn, or NamePrefix."
            )
        hidden = ("bus", "last", "Description", "Destination")
        replays = [
            {member: value for member, value in replay.items() if member not in hidden}
            for replay in self.runtime.store.list(REPLAY, prefix=NamePrefix)
            if EventSourceArn in (None, replay["EventSourceArn"]) and State in (None, replay["State"])
        ]
        return page(
            "Replays",
            sorted(replays, key=lambda it: str(it["ReplayName"])),
            NextToken,
            Limit,
            invalid="ValidationException",
        )

    def cancel_replay(self, *, ReplayName: str) -> Document:
        replay = self._replay(ReplayName)
        if replay["State"] not in ("STARTING", "RUNNING"):
            raise AWSError(
                "IllegalStatusException", f"Replay {ReplayName} is not in a valid state for this operation."
            )
        self.runtime.store.put(REPLAY, ReplayName, replay | {"State": "CANCELLING"})
        return {"ReplayArn": self._replay_arn(ReplayName), "State": "CANCELLING"}

    def _run(self, replay: Document) -> None:
        self.spawn(self._replay_all(replay["ReplayName"]), name=f"replay {replay['ReplayName']}")

    async def _replay_all(self, name: str) -> None:
        """Send the events of the replay's times, the oldest first, each noted in the step that sends it."""
        store = self.runtime.store
        await store.committed()
        for time, number in self._due(self._replay(name)):
            replay = self._replay(name)
            if replay["State"] == "CANCELLING":
                break
            archive = store.get(ARCHIVE, replay["EventSourceArn"].partition(":archive/")[2])
            entry = store.entry(archive["stream"], number) if archive else None
            if entry is not None:
                self._routes.match(
                    entry["event"] | {"replay-name": name},
                    bus=replay["bus"],
                    only=replay["Destination"].get("FilterArns", ()),
                )
            noted = {"State": "RUNNING", "EventLastReplayedTime": datetime.fromisoformat(time)}
            store.put(REPLAY, name, replay | noted | {"last": [time, number]})
            await store.committed()
        replay = self._replay(name)
        state = "CANCELLED" if replay["State"] == "CANCELLING" else "COMPLETED"
        store.put(REPLAY, name, replay | {"State": state, "ReplayEndTime": datetime.now(UTC)})

    def _due(self, replay: Document) -> list[tuple[str, int]]:
        """Times and numbers of the events that are still to be replayed, in order."""
        archive = self.runtime.store.get(ARCHIVE, replay["EventSourceArn"].partition(":archive/")[2])
        if archive is None:
            return []
        start, end = event_time(replay["EventStartTime"]), event_time(replay["EventEndTime"])
        places = [
            (event["time"], number)
            for number, event in event_history.kept(self.runtime.store, archive)
            if start <= event["time"] < end
        ]
        last = tuple(replay["last"] or ("", 0))
        return sorted(place for place in places if place > last)

    def _archive(self, name: str) -> Document:
        archive = self.runtime.store.get(ARCHIVE, name)
        if archive is None:
            raise AWSError("ResourceNotFoundException", f"Archive {name} does not exist.")
        return archive

    def _replay(self, name: str) -> Document:
        replay = self.runtime.store.get(REPLAY, name)
        if replay is None:
            raise AWSError("ResourceNotFoundException", f"Replay {name} does not exist.")
        return replay

    def _put(self, archive: Document) -> Document:
        name = archive["ArchiveName"]
        self.runtime.store.put(ARCHIVE, name, archive)
        return {
            "ArchiveArn": self._archive_arn(name),
            "State": archive["State"],
            "CreationTime": archive["CreationTime"],
        }

    def _listed(self, archive: Document) -> Document:
        events = [event for _, event in event_history.kept(self.runtime.store, archive)]
        return {
            **{member: archive[member] for member in _OF_AN_ARCHIVE},
            "EventCount": len(events),
            "SizeBytes": sum(len(json.dumps(event)) for event in events),
        }

    def _archive_arn(self, name: str) -> str:
        return self.runtime.arn("events", f"archive/{name}")

    def _replay_arn(self, name: str) -> str:
        return self.runtime.arn("events", f"replay/{name}")


def _changed(archive: Document, **settings: Any) -> Document:
    if pattern := settings["EventPattern"]:
        event_patterns.check(_json(pattern))
    if (settings["RetentionDays"] or 0) < 0:
        raise invalid("Parameter RetentionDays is not valid. Reason: It must be 0 or more.")
    given = {member: value for member, value in settings.items() if value is not None}
    return {member: value for member, value in {**archive, **given}.items() if value != ""}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise AWSError(
            "InvalidEventPatternException", f"Event pattern is not valid. Reason: {error}"
        ) from error
