"""The price table: a TOML file with a date, and a source for each price."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from stagegate.errors import ConfigurationError

PRICES = Path(__file__).with_name("prices.toml")
"""The table that comes with us."""
_INSTANCE_KINDS = ("training", "processing", "hosting")


@dataclass(frozen=True, kw_only=True)
class Price:
    """US dollars for one unit."""

    usd: Decimal
    unit: str
    source: str


@dataclass(frozen=True, kw_only=True)
class PriceTable:
    """All prices by their names: `lambda:request`, and `training:ml.g5.xlarge` for an instance's hour."""

    date: date
    region: str
    note: str
    prices: Mapping[str, Price]


def read_prices(path: Path) -> PriceTable:
    """Raises ConfigurationError for a file that is no price table."""
    try:
        table = tomllib.loads(path.read_text(), parse_float=Decimal)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from error
    if type(table.get("date")) is not date:
        raise ConfigurationError(f"{path}: date is {table.get('date')!r}; it should be a day, as 2026-01-31")
    if not isinstance(table.get("region"), str):
        raise ConfigurationError(f"{path}: region is {table.get('region')!r}; it should be as us-east-1")
    return PriceTable(
        date=table["date"],
        region=table["region"],
        note=str(table.get("note", "")),
        prices=dict(_prices(path, table)) | dict(_instances(path, table)),
    )


def _prices(path: Path, table: Mapping[str, Any]) -> Iterator[tuple[str, Price]]:
    for name, entry in _entries(path, table, "prices").items():
        if not isinstance(entry, dict) or not {"usd", "unit", "source"} <= entry.keys():
            raise ConfigurationError(f"{path}: the price {name} should have usd, unit and source")
        yield (
            name,
            Price(
                usd=_dollars(path, name, entry["usd"]),
                unit=str(entry["unit"]),
                source=str(entry["source"]),
            ),
        )


def _instances(path: Path, table: Mapping[str, Any]) -> Iterator[tuple[str, Price]]:
    for kind, entries in _entries(path, table, "instances").items():
        if kind not in _INSTANCE_KINDS or not isinstance(entries, dict) or "source" not in entries:
            raise ConfigurationError(
                f"{path}: instances.{kind} should be a table of {', '.join(_INSTANCE_KINDS)}, with a source"
            )
        for instance_type, usd in entries.items():
            if instance_type != "source":
                name = f"{kind}:{instance_type}"
                price = Price(usd=_dollars(path, name, usd), unit="hour", source=str(entries["source"]))
                yield name, price


def _entries(path: Path, table: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    entries = table.get(name, {})
    if not isinstance(entries, dict):
        raise ConfigurationError(f"{path}: {name} is {entries!r}; it should be a table")
    return entries


def _dollars(path: Path, name: str, usd: Any) -> Decimal:
    if isinstance(usd, bool) or not isinstance(usd, int | Decimal) or not Decimal(usd).is_finite() or usd < 0:
        raise ConfigurationError(f"{path}: {name} is {usd!r}; it should be US dollars, 0 or more")
    return Decimal(usd)
