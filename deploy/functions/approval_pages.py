"""The pages behind a mail's links, and the mail in HTML. All that comes from outside is escaped."""

import base64
import hashlib
from collections.abc import Mapping
from html import escape

from approval_links import LINK
from approval_text import class_columns, class_rows, facts
from approvals import Approval, said

COMMENT_LENGTH = 800
NAME_LENGTH = 100

STYLE = """
:root { color-scheme: light dark; --text: #1d2433; --soft: #5c6679; --line: #d9dee8; --paper: #fff;
  --ground: #f3f5f9; --yes: #14733c; --no: #b3261e }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9f0; --soft: #9aa4b8; --line: #333c4e;
  --paper: #1b212d; --ground: #11151d; --yes: #3fae6c; --no: #f0776d } }
* { box-sizing: border-box }
body { margin: 0; padding: 2rem 1rem; background: var(--ground); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif }
main { max-width: 46rem; margin: auto; padding: 1.5rem 2rem 2rem; background: var(--paper);
  border: 1px solid var(--line); border-radius: .75rem }
h1 { font-size: 1.35rem; margin: 0 0 1rem; overflow-wrap: anywhere }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.25rem; margin: 0 }
dt, label, caption { color: var(--soft) }
dd { margin: 0; overflow-wrap: anywhere }
.wide { overflow-x: auto; margin: 1.25rem 0 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
caption { text-align: left; padding-bottom: .4rem; white-space: nowrap }
th, td { padding: .3rem .6rem; border: 1px solid var(--line); text-align: right; font-weight: 400 }
th { color: var(--soft) }
label { display: block; margin-top: 1rem }
input[type=text], textarea { width: 100%; padding: .5rem .6rem; font: inherit; color: inherit;
  background: var(--ground); border: 1px solid var(--line); border-radius: .4rem }
button { margin-top: 1.25rem; padding: .6rem 1.4rem; font: inherit; font-weight: 600; color: var(--paper);
  border: 0; border-radius: .4rem; cursor: pointer }
.approve { background: var(--yes) } .reject { background: var(--no) }
.said { padding: .75rem 1rem; border-left: .25rem solid var(--no); background: var(--ground) }
.so { padding: .75rem 1rem; border-left: .25rem solid var(--yes); background: var(--ground) }
a { color: inherit }
@media (max-width: 34rem) { main { padding: 1rem } dl { grid-template-columns: 1fr }
  dd { margin-bottom: .5rem } caption { white-space: normal } button { width: 100% } }
"""

MAIL_STYLE = """
@media (prefers-color-scheme: dark) {
  .ground { background: #11151d !important } .paper { background: #1b212d !important }
  .text { color: #e6e9f0 !important } .soft { color: #9aa4b8 !important }
  .line { border-color: #333c4e !important } }
@media (max-width: 480px) { .stack { display: block !important; width: auto !important;
  padding: 0 !important } .stack.soft { padding-top: 10px !important }
  .paper { padding: 16px !important }
  .button { display: block !important; margin: 0 0 12px !important; text-align: center !important } }
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
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Robots-Tag": "noindex, nofollow",
    "Strict-Transport-Security": "max-age=31536000",
}


def form_page(
    approval: Approval,
    query: Mapping[str, str],
    *,
    token: str,
    opposite: str,
    report: str,
    typed: Mapping[str, str],
    said_wrong: str,
) -> str:
    """What is to be approved, and the form for the link's decision.

    `token` is the form's own, `opposite` the link to the other decision, `report` the one to the
    endpoint tests' report, if there is one. `typed` fills the fields, and `said_wrong` says what was wrong,
    when the form comes back.
    """
    verb, other = ("Approve", "Reject") if query["decision"] == "approve" else ("Reject", "Approve")
    hidden = "".join(
        f'<input type="hidden" name="{name}" value="{escape(value)}">'
        for name, value in {**{name: query[name] for name in LINK}, "form_token": token}.items()
    )
    is_rejection = query["decision"] == "reject"
    wrong = f'<p class="said" role="alert">{escape(said_wrong)}</p>' if said_wrong else ""
    tests = f'<p><a href="{escape(report)}">Report of the endpoint tests</a></p>' if report else ""
    return page(
        approval.subject,
        f"""{wrong}{_so_far(approval)}{_facts(approval)}{tests}{_classes(approval)}{_matrix(approval)}
<form method="post">{hidden}
{_who(approval, query, typed)}
<label for="comment">{"Why (needed)" if is_rejection else "Comment"}</label>
<textarea id="comment" name="comment" rows="3" maxlength="{COMMENT_LENGTH}"{
            " required" if is_rejection else ""
        }>{escape(typed.get("comment", ""))}</textarea>
<button class="{escape(query["decision"])}">{verb}</button>
</form>
<p><a href="{escape(opposite)}">{other} instead</a></p>""",
    )


def look_page(approval: Approval) -> str:
    """An approval without a form: one that is not open any more, or that a link only shows."""
    return page(
        approval.subject,
        f'<p class="so">{escape(said(approval))}</p>'
        f"{_facts(approval)}{_classes(approval)}{_matrix(approval)}",
    )


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


def mail_page(approval: Approval, *, heading: str, links: Mapping[str, str], picture: str) -> str:
    """The mail in HTML: tables and styles in place, since that is what mail programs read."""
    colours = {"Look and approve": "#14733c", "Look and reject": "#b3261e", "Test report": "#44506a"}
    font = "font:15px/1.5 -apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
    cell = "padding:2px 16px 2px 0;vertical-align:top;text-align:left"
    rows = "".join(
        f'<tr><td class="stack soft" style="{cell};color:#5c6679;white-space:nowrap">{escape(name)}</td>'
        f'<td class="stack text" style="{cell};color:#1d2433;word-break:break-word">{escape(value)}</td></tr>'
        for name, value in facts(approval)
    )
    buttons = "".join(
        f'<a class="button" href="{escape(address)}" style="display:inline-block;margin:0 12px 8px 0;'
        f"padding:10px 20px;border-radius:6px;background:{colours[what]};color:#ffffff;font-weight:600;"
        f'text-decoration:none">{escape(what)}</a>'
        for what, address in links.items()
    )
    note = (
        '<p class="soft" style="margin:8px 0 20px;color:#5c6679;font-size:13px">'
        "Opening a link decides nothing: the page behind it asks again.</p>"
    )
    shown = (
        f'<p style="margin:20px 0 0"><img src="{escape(picture)}" width="420" alt="Confusion matrix" '
        'style="max-width:100%;height:auto;border-radius:6px;background:#ffffff"></p>'
        if picture
        else ""
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="supported-color-schemes" content="light dark">
<title>{escape(approval.subject)}</title>
<style>{MAIL_STYLE}</style>
</head>
<body class="ground" style="margin:0;padding:0;background:#f3f5f9">
<table role="presentation" class="ground" width="100%" cellpadding="0" cellspacing="0"
 style="background:#f3f5f9">
<tr><td align="center" style="padding:20px 8px">
<table role="presentation" width="100%" cellpadding="0" cellspacing="0" style="max-width:680px">
<tr><td class="paper line text" style="{font};padding:24px 28px;background:#ffffff;
 border:1px solid #d9dee8;border-radius:10px;color:#1d2433">
<h1 class="text" style="margin:0 0 16px;font-size:19px;line-height:1.3;color:#1d2433">{escape(heading)}</h1>
{f'<p style="margin:0 0 4px">{buttons}</p>{note}' if links else ""}
<table role="presentation" cellpadding="0" cellspacing="0" style="{font}">{rows}</table>
{_mail_classes(approval)}
{shown}
</td></tr></table>
</td></tr></table>
</body>
</html>
"""


def _mail_classes(approval: Approval) -> str:
    rows = class_rows(approval)
    if not rows:
        return ""
    cell = "padding:3px 12px;border:1px solid #d9dee8;text-align:right"
    head = "".join(
        f'<th class="line soft" style="{cell};color:#5c6679;font-weight:400">{name}</th>'
        for name in ("class", *class_columns(approval))
    )
    body = "".join(
        "<tr>"
        + "".join(f'<td class="line text" style="{cell};color:#1d2433">{escape(value)}</td>' for value in row)
        + "</tr>"
        for row in rows
    )
    return (
        '<table class="line" cellpadding="0" cellspacing="0" style="margin:20px 0 0;border-collapse:collapse;'
        f'font-size:14px"><tr>{head}</tr>{body}</table>'
    )


def _who(approval: Approval, query: Mapping[str, str], typed: Mapping[str, str]) -> str:
    """A link of one's own says who decides; behind a topic's link somebody says it themselves."""
    if query["approver"]:
        return f"<p>You decide as {escape(approval.rules.approvers[int(query['approver'])])}.</p>"
    return f"""<label for="decided_by">Your mail address</label>
<input type="text" id="decided_by" name="decided_by" required maxlength="{NAME_LENGTH}" autocomplete="email"
 value="{escape(typed.get("decided_by", ""))}">"""


def _so_far(approval: Approval) -> str:
    return f'<p class="so">{escape(said(approval))}</p>' if approval.votes else ""


def _facts(approval: Approval) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts(approval))
    return f"<dl>{rows}</dl>"


def _classes(approval: Approval) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(value)}</td>" for value in row[1:])
        + "</tr>"
        for row in class_rows(approval)
    )
    head = "<tr><td></td>" + "".join(f'<th scope="col">{name}</th>' for name in class_columns(approval))
    return _table("Recall of each class", f"{head}</tr>{rows}") if rows else ""


def _matrix(approval: Approval) -> str:
    counts = approval.details.get("matrix")
    if not counts:
        rows = "".join(
            f"<tr><td>{escape(actual)}</td><td>{escape(predicted)}</td><td>{times:g}</td></tr>"
            for actual, predicted, times in approval.details.get("confusions", ())
        )
        return _table("Most frequent confusions", f"<tr><th>shown<th>said<th>times</tr>{rows}")
    names = list(counts)
    head = "<tr><td></td>" + "".join(f'<th scope="col">{escape(name)}</th>' for name in names) + "</tr>"
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{counts[name].get(column, 0):g}</td>" for column in names)
        + "</tr>"
        for name in names
    )
    return _table("Confusion matrix: rows are what it shows, columns what the model said", head + rows)


def _table(caption: str, rows: str) -> str:
    return f'<div class="wide"><table><caption>{escape(caption)}</caption>{rows}</table></div>'
