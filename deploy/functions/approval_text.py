"""What is to be approved, as rows of facts and as plain text: for the mail, and for the page."""

from typing import Any

from approvals import Approval, moment

MATRIX_CLASSES = 12
"""With more classes than this, the confusions that happen most are named instead of the whole matrix."""
CONFUSIONS = 10
NAME_WIDTH = 12

Matrix = dict[str, dict[str, float]]


def facts(approval: Approval) -> list[tuple[str, str]]:
    """What a person needs to know, in the order of its weight; only what the request has."""
    details = approval.details
    rows = [
        ("Accuracy", _accuracy(details)),
        ("Endpoint tests", str((details.get("TestReport") or {}).get("text", ""))),
        ("Model package", str(details.get("ModelPackageArn", ""))),
        ("Run", approval.run_id),
        ("Commit", str(details.get("Commit", ""))),
        ("Data set", str(details.get("DatasetUri", ""))),
        ("Data SHA-256", str(details.get("DatasetSha256", ""))),
        ("Training job", str(details.get("TrainingJobName", ""))),
        ("Report", str(details.get("Report", ""))),
        ("Execution", str(details.get("ExecutionArn", ""))),
        ("Asked", moment(approval.requested_at)),
        ("Expires", moment(approval.expires_at)),
    ]
    return [(name, value) for name, value in rows if value]


def matrix(approval: Approval) -> Matrix:
    """Rows are what the images show, columns what the model said."""
    return approval.details.get("ConfusionMatrix") or {}


def confusions(counts: Matrix) -> list[tuple[str, str, float]]:
    """(what it shows, what the model said, how often), the most frequent first."""
    wrong = [
        (actual, predicted, count)
        for actual, row in counts.items()
        for predicted, count in row.items()
        if actual != predicted and count
    ]
    return sorted(wrong, key=lambda confusion: -confusion[2])[:CONFUSIONS]


def plain_text(approval: Approval, *, approve: str, reject: str) -> str:
    """The mail for a reader that shows no HTML."""
    lines = [f"{approval.subject}: your decision is asked for.", ""]
    rows = facts(approval)
    width = max(len(name) for name, _ in rows)
    lines += [f"{name + ':':<{width + 1}} {value}" for name, value in rows]
    if counts := matrix(approval):
        lines += ["", *_matrix_lines(counts)]
    lines += [
        "",
        "Look and approve:",
        approve,
        "",
        "Look and reject:",
        reject,
        "",
        "Opening a link decides nothing: the page behind it asks again.",
    ]
    return "\n".join(lines) + "\n"


def count(value: float) -> str:
    return f"{value:g}"


def _accuracy(details: dict[str, Any]) -> str:
    if "Accuracy" not in details:
        return ""
    threshold = details.get("AccuracyThreshold")
    asked = f" (the threshold is {float(threshold):.4g})" if threshold is not None else ""
    return f"{float(details['Accuracy']):.4f}{asked}"


def _matrix_lines(counts: Matrix) -> list[str]:
    if len(counts) > MATRIX_CLASSES:
        lines = ["Most frequent confusions (shown, said, times):"]
        return lines + [f"  {actual}, {said}, {count(times)}" for actual, said, times in confusions(counts)]
    names = list(counts)
    wide = max(5, min(NAME_WIDTH, max(len(name) for name in names)))
    head = " " * (wide + 2) + " ".join(f"{name[:wide]:>{wide}}" for name in names)
    return [
        "Confusion matrix (rows: what it shows, columns: what the model said):",
        head,
        *(
            f"{name[:wide]:<{wide}}  "
            + " ".join(f"{count(counts[name].get(column, 0)):>{wide}}" for column in names)
            for name in names
        ),
    ]
