"""The report of a session for a person: one HTML file that needs no other."""

from __future__ import annotations

import base64
import html
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from summary import together

if TYPE_CHECKING:
    from findings import Findings, Outcome, Picture
    from load import Load

PICTURES = 24
PIXELS = 192  # of a picture's longer side
PLOT = (720, 240, 52, 12, 26)  # width, height, and the margins: left, the others, below
MARKS = {"passed": "✓", "failed": "✗", "skipped": "–"}

text = html.escape


def page(findings: Findings) -> str:
    failed = findings.count("failed")
    cards = [
        ("Failures", _failures(findings) if failed else ""),
        ("Measured", _measured(findings)),
        ("Latency under load", _latency(findings.load, findings) if findings.load else ""),
        ("Answers", _pictures(findings.pictures)),
        ("Tests", _tests(findings.outcomes)),
    ]
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    body = "\n".join(
        f'<section class="card"><h2>{title}</h2>{content}</section>' for title, content in cards if content
    )
    title = f"Endpoint tests, {text(findings.stage or 'no stage')}"
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{style}</style>\n<main>\n{_header(findings, title)}\n{body}\n"
        "</main>\n</html>\n"
    )


def _header(findings: Findings, title: str) -> str:
    failed, passed = findings.count("failed"), findings.count("passed")
    outcome, kind = (
        (f"{failed} failed", "failed")
        if failed
        else ("passed", "passed")
        if passed
        else ("nothing ran", "failed")
    )
    counts = f"{passed} of {len(findings.outcomes)} tests passed in {findings.seconds:.0f} s"
    return (
        f'<header><div><h1>{title}</h1><p class="quiet">{text(findings.endpoint)}: {counts}</p>'
        f'<p class="quiet"><code>{text(findings.model_package)}</code></p></div>'
        f'<p class="outcome {kind}">{outcome}</p></header>'
    )


def _failures(findings: Findings) -> str:
    items = (
        f"<dt><code>{text(first.name)}</code>{f' and {more} more' if more else ''}</dt>"
        f"<dd>{text(first.reason)}</dd>"
        for first, more in together(findings.failures)
    )
    return f'<dl class="failures">{"".join(items)}</dl>'


def _measured(findings: Findings) -> str:
    measured = findings.measured
    rows = []
    for name, value in measured.items():
        kind, limit = measured.limits.get(name, ("", 0.0))
        kept = "passed" if measured.is_kept(name) else "failed"
        mark = f'<span class="{kept}">{MARKS[kept]}</span>' if kind else ""
        rows.append(
            f"<tr><td>{text(name.replace('_', ' '))}</td><td>{_number(value)}</td>"
            f"<td>{f'{kind} {_number(limit)}' if kind else ''}</td><td>{mark}</td></tr>"
        )
    head = (
        '<tr><th scope="col">Measure</th><th scope="col">Value</th><th scope="col">Limit</th><th></th></tr>'
    )
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>" if rows else ""


def _latency(load: Load, findings: Findings) -> str:
    """A dot for each request, where it was due and how long its answer took; lines are the limits."""
    width, height, left, margin, below = PLOT
    limits = {
        name: limit
        for percentile in (50, 95, 99)
        for name in (f"p{percentile}",)
        for _, limit in [findings.measured.limits.get(f"latency_{name}_ms", ("", 0.0))]
        if limit
    }
    latencies = [max(request.milliseconds, 0.1) for request in load.requests]
    bottom = math.floor(math.log10(min(latencies)))
    top = math.ceil(math.log10(max(*latencies, *limits.values(), 10 ** (bottom + 1))) + 0.05)
    end = len(load.requests) / load.per_second

    def x(seconds: float) -> float:
        return left + (width - left - margin) * seconds / end

    def y(milliseconds: float) -> float:
        share = (math.log10(milliseconds) - bottom) / (top - bottom)
        return height - below - (height - below - margin) * share

    marks = []
    for power in range(bottom, top + 1):
        at = y(10**power)
        marks.append(f'<line class="grid" x1="{left}" x2="{width - margin}" y1="{at:.1f}" y2="{at:.1f}"/>')
        marks.append(f'<text class="end" x="{left - 8}" y="{at + 4:.1f}">{10.0**power:g}</text>')
    for quarter in range(5):
        seconds = end * quarter / 4
        anchor = {0: "start", 4: "end"}.get(quarter, "middle")
        marks.append(f'<text class="{anchor}" x="{x(seconds):.1f}" y="{height - 6}">{seconds:.3g} s</text>')
    for name, limit in limits.items():
        at = y(limit)
        marks.append(f'<line class="limit" x1="{left}" x2="{width - margin}" y1="{at:.1f}" y2="{at:.1f}"/>')
        marks.append(f'<text class="end limit" x="{width - margin}" y="{at - 4:.1f}">limit of {name}</text>')
    for request, latency in zip(load.requests, latencies, strict=True):
        kind = "error" if request.error else "answer"
        title = f"due {request.due:.2f} s: {latency:.1f} ms{', ' + request.error if request.error else ''}"
        marks.append(
            f'<circle class="{kind}" cx="{x(request.due):.1f}" cy="{y(latency):.1f}" r="3">'
            f"<title>{text(title[:200])}</title></circle>"
        )
    note = (
        f"{len(load.requests)} requests, {load.per_second:g} a second; {len(load.errors)} errors. "
        "Milliseconds from the moment at which a request was due, to its answer."
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Latency of each request">'
        f'{"".join(marks)}</svg><p class="key">{note}</p>'
    )


def _pictures(pictures: list[Picture]) -> str:
    """The wrong ones first, those before where the endpoint was surest; then some that are right."""
    wrong = sorted((one for one in pictures if one.predicted != one.true), key=lambda one: -one.probability)
    right = [one for one in pictures if one.predicted == one.true]
    room = max(0, PICTURES - len(wrong))
    spread = right[:: max(1, math.ceil(len(right) / room))] if room else []
    shown = [*wrong[:PICTURES], *spread]
    if not shown:
        return ""
    note = f"{len(wrong)} of {len(pictures)} images of the sample are taken for something else."
    return f'<div class="pictures">{"".join(map(_figure, shown))}</div><p class="key">{note}</p>'


def _figure(picture: Picture) -> str:
    said = f'{text(picture.predicted)} <span class="quiet">{picture.probability:.0%}</span>'
    if picture.predicted == picture.true:
        caption = f'<span class="passed">✓</span> {said}'
    else:
        caption = f'{text(picture.true)}<br><span class="failed">✗ taken for</span> {said}'
    return (
        f'<figure><img src="{_data_uri(picture.image)}" alt="{text(picture.true)}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _tests(outcomes: list[Outcome]) -> str:
    """Those that failed first; where a test passed with several parameters, once."""
    rows: dict[str, list[Outcome]] = {}
    for one in sorted(outcomes, key=lambda one: ("failed", "skipped", "passed").index(one.outcome)):
        rows.setdefault(one.test if one.outcome == "passed" else one.name, []).append(one)
    return f'<table class="tests"><tbody>{"".join(map(_row, rows.values()))}</tbody></table>'


def _row(alike: list[Outcome]) -> str:
    first = alike[0]
    name = text(first.name if len(alike) == 1 else first.test)
    times = f' <span class="quiet">×&nbsp;{len(alike)}</span>' if len(alike) > 1 else ""
    reason = f"<small>{text(first.reason)}</small>" if first.reason else ""
    return (
        f'<tr><td class="{first.outcome}">{MARKS[first.outcome]}</td>'
        f"<td><code>{name}</code>{times}{reason}</td><td>{sum(one.seconds for one in alike):.2f} s</td></tr>"
    )


def _number(value: float) -> str:
    if 0 < abs(value) < 1e-4:
        return "under 0.0001"
    return f"{value:,.0f}" if abs(value) >= 1000 and math.isfinite(value) else f"{value:.4g}"


def _data_uri(pixels: Any) -> str:
    picture = Image.fromarray(pixels)
    picture.thumbnail((PIXELS, PIXELS))
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()
