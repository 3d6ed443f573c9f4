"""An estimate as tables, as two lines, and as JSON."""

from collections.abc import Iterator
from dataclasses import asdict, fields
from decimal import Decimal
from typing import Any

from rich.console import Group
from rich.markup import escape

from stagegate import display
from stagegate.cost.bill import Bill, Estimate

_COLUMNS = ("item", "quantity", "unit", "unit price", "cost")


def summary(estimated: Estimate) -> tuple[str, str]:
    """A line for the run, and one for the month."""
    table = estimated.table
    return (
        f"A run on AWS costs {_sum(estimated.run)} at the list prices of {table.date}, {table.region}.",
        f"A month of {estimated.assumed.runs} runs, with its endpoints, costs {_sum(estimated.month)} "
        f"at the list prices of {table.date}.",
    )


def tables(estimated: Estimate) -> Iterator[Group]:
    """The run, the month, and what both rest on."""
    yield _bill("A run", estimated.run)
    yield _bill("A month", estimated.month)
    if estimated.measured:
        rows = [
            [escape(state), display.duration(minutes * 60)] for state, minutes in estimated.measured.items()
        ]
        yield display.table("Measured in past runs", ("job", "mean"), rows)
    assumed = asdict(estimated.assumed)
    rows = [
        [f"{assumed[setting.name]:g}", str(setting.metadata["meaning"])]
        for setting in fields(estimated.assumed)
    ]
    yield display.table("Given or assumed", ("value", "what"), rows)


def as_data(estimated: Estimate) -> dict[str, Any]:
    """For JSON; what has no price is null, and the sum then not complete."""
    table = estimated.table
    return {
        "prices": {"date": table.date, "region": table.region, "note": table.note},
        "run": _data(estimated.run),
        "month": _data(estimated.month),
        "assumed": asdict(estimated.assumed),
        "measured_minutes": dict(estimated.measured),
    }


def _bill(title: str, bill: Bill) -> Group:
    rows = [
        [
            escape(line.item),
            f"{line.quantity:.4f}".rstrip("0").rstrip(".") if line.quantity % 1 else f"{line.quantity:.0f}",
            escape(line.unit),
            "unknown" if line.usd_each is None else _each(line.usd_each),
            "[yellow]unknown[/]" if line.usd is None else shown_dollars(line.usd),
        ]
        for line in bill.lines
    ]
    rows.append(["[bold]Sum[/]", "", "", "", f"[bold]{_sum(bill)}[/]"])
    return display.table(title, _COLUMNS, rows)


def _sum(bill: Bill) -> str:
    return f"${bill.usd:.2f}" if bill.is_complete else f"at least ${bill.usd:.2f}"


def _each(usd: Decimal) -> str:
    text = f"{usd:.10f}".rstrip("0")
    whole, _, part = text.partition(".")
    return f"${whole}.{part:0<2}"


def shown_dollars(usd: Decimal) -> str:
    if usd >= 1 or not usd:
        return f"${usd:.2f}"
    return f"${usd:.4f}" if usd >= Decimal("0.00005") else "under $0.0001"


def _data(bill: Bill) -> dict[str, Any]:
    lines = [
        {
            "item": line.item,
            "quantity": float(line.quantity),
            "unit": line.unit,
            "usd_each": None if line.usd_each is None else float(line.usd_each),
            "usd": None if line.usd is None else float(line.usd),
        }
        for line in bill.lines
    ]
    return {"usd": float(bill.usd), "is_complete": bill.is_complete, "lines": lines}
