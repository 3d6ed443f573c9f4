"""The pages behind a mail's links, and the mail in HTML. All that comes from outside is escaped."""

import base64
import hashlib
from collections.abc import Mapping
from html import escape

from approval_text import MATRIX_CLASSES, Matrix, confusions, count, facts, matrix
from approvals import COMMENT_LENGTH, NAME_LENGTH, Approval, decided

STYLE = """
:root { color-scheme: light dark; --text: #1d2433; --soft: #5c6679; --line: #d9dee8; --paper: #fff;
  --ground: #f3f5f9; --yes: #14733c; --no: #b3261e; --bar: 20, 115, 60 }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9f0; --soft: #9aa4b8; --line: #333c4e;
  --paper: #1b212d; --ground: #11151d; --yes: #3fae6c; --no: #f0776d; --bar: 63, 174, 108 } }
* { box-sizing: border-box }
body { margin: 0; padding: 2rem 1rem; background: var(--ground); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif }
main { max-width: 46rem; margin: auto; padding: 1.5rem 2rem 2rem; background: var(--paper);
  border: 1px solid var(--line); border-radius: .75rem }
h1 { font-size: 1.35rem; margin: 0 0 1rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.25rem; margin: 0 }
dt, label, caption { color: var(--soft) }
dd { margin: 0; overflow-wrap: anywhere }
.wide { overflow-x: auto; margin: 1.25rem 0 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
caption { text-align: left; padding-bottom: .4rem }
th, td { padding: .3rem .6rem; border: 1px solid var(--line); text-align: right; font-weight: 400 }
th { color: var(--soft) }
label { display: block; margin-top: 1rem }
input[type=text], textarea { width: 100%; padding: .5rem .6rem; font: inherit; color: inherit;
  background: var(--ground); border: 1px solid var(--line); border-radius: .4rem }
button { margin-top: 1.25rem; padding: .6rem 1.4rem; font: inherit; font-weight: 600; color: var(--paper);
  border: 0; border-radius: .4rem; cursor: pointer }
.approve { background: var(--yes) } .reject { background: var(--no) }
.said { padding: .75rem 1rem; border-left: .25rem solid var(--no); background: var(--ground) }
a { color: inherit }
@media (max-width: 34rem) { main { padding: 1rem } dl { grid-template-columns: 1fr }
  dd { margin-bottom: .5rem } }
"""

_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Robots-Tag": "noindex, nofollow",
    "Strict-Transport-Security": "max-age=31536000",
}


def form_page(
    approval: Approval,
    decision: str,
    query: Mapping[str, str],
    *,
    other: str,
    typed: Mapping[str, str],
    said: str,
) -> str:
    """What is to be approved, and the form for this decision; `other` is the link to the other decision.

    `typed` fills the fields, and `said` says what was wrong, when the form comes back.
    """
    verb, opposite = ("Approve", "Reject") if decision == "approve" else ("Reject", "Approve")
    hidden = "".join(
        f'<input type="hidden" name="{name}" value="{escape(query[name])}">'
        for name in ("id", "decision", "expires", "signature")
    )
    needed = " required" if decision == "reject" else ""
    why = "Why (needed)" if needed else "Comment"
    return page(
        approval.subject,
        f"""{f'<p class="said" role="alert">{escape(said)}</p>' if said else ""}
{_facts(approval)}
{_matrix(matrix(approval))}
<form method="post">{hidden}
<label for="decided_by">Your name</label>
<input type="text" id="decided_by" name="decided_by" required maxlength="{NAME_LENGTH}" autocomplete="name"
 value="{escape(typed.get("decided_by", ""))}">
<label for="comment">{why}</label>
<textarea id="comment" name="comment" rows="3" maxlength="{COMMENT_LENGTH}"{needed}>{
            escape(typed.get("comment", ""))
        }</textarea>
<button class="{decision}">{verb}</button>
</form>
<p><a href="{escape(other)}">{opposite} instead</a></p>""",
    )


def decided_page(approval: Approval) -> str:
    """An approval that is not open any more."""
    return page(approval.subject, f'<p class="said">{escape(decided(approval))}</p>{_facts(approval)}')


def message_page(title: str, message: str) -> str:
    return page(title, f"<p>{escape(message)}</p>")


def page(title: str, body: str) -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body><main>
<h1>{escape(title)}</h1>
{body}
</main></body>
</html>
"""


def mail(approval: Approval, *, approve: str, reject: str) -> str:
    """The mail in HTML: the same facts, and two buttons that open the page."""
    return page(
        approval.subject,
        f"""{_facts(approval)}
{_matrix(matrix(approval))}
<p><a href="{escape(approve)}">Look and approve</a> &nbsp; <a href="{escape(reject)}">Look and reject</a></p>
<p>Opening a link decides nothing: the page behind it asks again.</p>""",
    )


def _facts(approval: Approval) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts(approval))
    return f"<dl>{rows}</dl>"


def _matrix(counts: Matrix) -> str:
    if not counts:
        return ""
    if len(counts) > MATRIX_CLASSES:
        rows = "".join(
            f"<tr><td>{escape(actual)}</td><td>{escape(said)}</td><td>{count(times)}</td></tr>"
            for actual, said, times in confusions(counts)
        )
        return _table("Most frequent confusions", "<tr><th>shown<th>said<th>times</tr>" + rows)
    names = list(counts)
    head = "<tr><td></td>" + "".join(f'<th scope="col">{escape(name)}</th>' for name in names) + "</tr>"
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{count(counts[name].get(column, 0))}</td>" for column in names)
        + "</tr>"
        for name in names
    )
    return _table("Confusion matrix: rows are what it shows, columns what the model said", head + rows)


def _table(caption: str, rows: str) -> str:
    return f'<div class="wide"><table><caption>{escape(caption)}</caption>{rows}</table></div>'
