"""The events of builds ("Build notifications input format reference")."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from stagegate.local.service import Announcement

Document = dict[str, Any]


def announcements(before: Document | None, build: Document) -> Iterator[Announcement]:
    """What has happened since `before`: the phases that have ended, then the status where it is new."""
    ended = len([phase for phase in before["phases"] if "endTime" in phase]) if before else 0
    for phase in [phase for phase in build["phases"] if "endTime" in phase][ended:]:
        yield _announcement("CodeBuild Build Phase Change", build, _phase_detail(build, phase))
    if before is None or before["buildStatus"] != build["buildStatus"]:
        detail = {
            "build-status": build["buildStatus"],
            "current-phase": build["currentPhase"],
            "current-phase-context": "[]",
        }
        yield _announcement("CodeBuild Build State Change", build, detail)


def _announcement(detail_type: str, build: Document, detail: Document) -> Announcement:
    return Announcement(
        source="aws.codebuild",
        detail_type=detail_type,
        detail={
            **detail,
            "project-name": build["projectName"],
            "build-id": build["arn"],
            "version": "1",
            "additional-information": _information(build),
        },
        resources=(build["arn"],),
    )


def _phase_detail(build: Document, phase: Document) -> Document:
    return {
        "completed-phase": phase["phaseType"],
        "completed-phase-status": phase.get("phaseStatus") or build["buildStatus"],
        "completed-phase-context": f"[{', '.join(_contexts(phase))}]",
        "completed-phase-duration-seconds": phase.get("durationInSeconds", 0),
        "completed-phase-start": _time(phase["startTime"]),
        "completed-phase-end": _time(phase["endTime"]),
    }


def _information(build: Document) -> Document:
    artifact, environment = build["artifacts"], build["environment"]
    return {
        "artifact": {
            name: artifact[name] for name in ("md5sum", "sha256sum", "location") if name in artifact
        },
        "build-complete": build["buildComplete"],
        "build-number": build["buildNumber"],
        "build-start-time": _time(build["startTime"]),
        "environment": {
            "image": environment["image"],
            "privileged-mode": environment.get("privilegedMode", False),
            "compute-type": environment["computeType"],
            "type": environment["type"],
            "environment-variables": environment.get("environmentVariables", []),
        },
        "initiator": build["initiator"],
        "logs": {
            "group-name": build["logs"]["groupName"],
            "stream-name": build["logs"]["streamName"],
            "deep-link": build["logs"]["deepLink"],
        },
        "phases": [_phase(phase) for phase in build["phases"]],
        "source": build["source"],
        "timeout-in-minutes": build["timeoutInMinutes"],
    }


def _phase(phase: Document) -> Document:
    announced = {"phase-type": phase["phaseType"], "start-time": _time(phase["startTime"])}
    if "phaseStatus" in phase:
        announced |= {
            "phase-context": _contexts(phase),
            "phase-status": phase["phaseStatus"],
            "end-time": _time(phase["endTime"]),
            "duration-in-seconds": phase["durationInSeconds"],
        }
    return announced


def _contexts(phase: Document) -> list[str]:
    return [
        f"{context['statusCode']}: {context['message']}"
        for context in phase.get("contexts", [])
        if context["statusCode"] or context["message"]
    ]


def _time(moment: datetime) -> str:
    """Sep 1, 2017 4:12:29 PM"""
    return f"{moment:%b} {moment.day}, {moment.year} {moment.hour % 12 or 12}:{moment:%M:%S %p}"
