"""What a run and a month cost on AWS, item by item, from definitions, durations and a dated price table."""

from stagegate.cost.bill import Bill, Estimate, Line, estimate
from stagegate.cost.durations import measured_minutes
from stagegate.cost.prices import PRICES, PriceTable, read_prices
from stagegate.cost.shown import as_data, summary, tables
from stagegate.cost.usage import Assumptions, Usage, read_usage

__all__ = [
    "PRICES",
    "Assumptions",
    "Bill",
    "Estimate",
    "Line",
    "PriceTable",
    "Usage",
    "as_data",
    "estimate",
    "measured_minutes",
    "read_prices",
    "read_usage",
    "summary",
    "tables",
]
