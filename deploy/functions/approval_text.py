"""What is to be approved, as rows of facts and as plain text: for the mail, the page and the webhook."""

from typing import Any

from approvals import Approval, moment, said

Json = Any


def facts(approval: Approval) -> list[tuple[str, str]]:
    """What a person needs to know, in the order of its weight; only what the request has."""
    details = approval.details
    rows = [
        ("Accuracy", accuracy(details["accuracy"])),
        ("Champion", champion(details.get("champion"))),
        ("Endpoint tests", tests(details.get("tests"))),
        ("Test report", details.get("test_report", "")),
        ("Changes", details.get("changes", "")),
        ("Started by", approval.started_by),
        ("Run", approval.run_id),
        ("Commit", details.get("commit", "")),
        ("Data set", details.get("dataset", "")),
        ("Data SHA-256", details.get("dataset_sha256", "")),
        ("Model package", approval.model_package_arn),
        ("Model SHA-256", approval.bound.get("artifact", {}).get("sha256", "")),
        ("Training job", details.get("training_job", "")),
        ("Report", details.get("report", "")),
        ("Execution", approval.execution_arn),
        ("Asked", asked(approval)),
        ("Expires", moment(approval.expires_at)),
    ]
    return [(name, value) for name, value in rows if value]


def accuracy(measured: dict[str, Json]) -> str:
    threshold = measured.get("threshold")
    text = (
        f"{measured['value']:.4f} (95 %: {measured['low']:.4f} to {measured['high']:.4f}, "
        f"{measured['images']:,} images)"
    )
    if threshold is None:
        return text
    side = "at or above" if measured["value"] >= threshold else "below"
    return f"{text}, {side} the threshold of {threshold:g}"


def champion(compared: dict[str, Json] | None) -> str:
    """How it does beside what production serves."""
    if not compared:
        return "none: nothing serves in production"
    data = "the same test data" if compared["is_same_data"] else "other test data"
    return (
        f"version {compared['version']} has {compared['value']:.4f} on {data}; the difference is "
        f"{points(compared['difference'])} points (95 %: {points(compared['difference_low'])} to "
        f"{points(compared['difference_high'])})"
    )


def points(share: float) -> str:
    """0.0123 as "+1.2"."""
    return f"{100 * share:+.1f}".replace("-", "\N{MINUS SIGN}")


def tests(report: dict[str, Json] | None) -> str:
    return str((report or {}).get("text") or "")


def asked(approval: Approval) -> str:
    """When, and who, where more than one are asked."""
    approvers = approval.rules.approvers
    when = moment(approval.requested_at)
    if len(approvers) < 2:
        return when
    return f"{when}: {', '.join(approvers)}; {approval.rules.required} of them must approve"


def class_columns(approval: Approval) -> tuple[str, ...]:
    """What `class_rows` has beside the class; without a champion there is nothing to compare with."""
    return ("recall", "champion", "change") if approval.details.get("champion") else ("recall",)


def class_rows(approval: Approval) -> list[tuple[str, ...]]:
    """(class, recall, the champion's recall, change), as percentages and points."""
    rows = []
    for row in approval.details.get("classes", ()):
        before = row["before"]
        compared = ("", "") if before is None else (_percent(before), points(row["recall"] - before))
        rows.append((row["name"], _percent(row["recall"]), *compared))
    return [row[: 1 + len(class_columns(approval))] for row in rows]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def plain_text(approval: Approval, *, heading: str, links: dict[str, str]) -> str:
    """The mail for a reader that shows no HTML."""
    lines = [heading, ""]
    rows = facts(approval)
    width = max(len(name) for name, _ in rows)
    lines += [f"{name + ':':<{width + 1}} {value}" for name, value in rows]
    if classes := class_rows(approval):
        table = [("class", *class_columns(approval)), *classes]
        wide = max(len(row[0]) for row in table)
        lines += ["", "Recall of each class:"]
        lines += [f"  {row[0]:<{wide}}" + "".join(f"  {value:>8}" for value in row[1:]) for row in table]
    if confusions := approval.details.get("confusions"):
        lines += ["", "Most frequent confusions (what it shows, what the model said, times):"]
        lines += [f"  {actual}, {predicted}, {count:g}" for actual, predicted, count in confusions]
    if approval.votes:
        lines += ["", said(approval)]
    for what, address in links.items():
        lines += ["", f"{what}:", address]
    if links:
        lines += ["", "Opening a link decides nothing: the page behind it asks again."]
    return "\n".join(lines) + "\n"
