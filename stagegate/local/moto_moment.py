"""moto made repeatable: the time that it reads and the random numbers that it draws come from a `Moment`.

A request that changes something is answered within a moment that is written to the journal with it, so that
the same request in the same moment gives the same ids, dates and keys when the journal is replayed. moto
reads its clock and draws its numbers through names in its own modules; `instrument` puts ours in their place.
Outside a moment they are the real ones. Everything of moto's runs in one thread, so one moment is enough.
"""

import datetime as real_datetime
import os as real_os
import random
import sys
import time as real_time
import types
import uuid as real_uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When a request was answered, and the seed of all that was random in it."""

    time: float
    seed: int

    @classmethod
    def now(cls) -> "Moment":
        return cls(time=round(real_time.time(), 6), seed=int.from_bytes(real_os.urandom(7), "big"))


class _Current:
    time: float | None = None
    numbers: random.Random | None = None


_current = _Current()
_instrumented = {"moto.core.base_backend"}  # it tells its own objects apart by random ids: those must differ
_seen = 0


@contextmanager
def within(moment: Moment) -> Iterator[None]:
    """moto's clock stands at `moment`, and its random numbers come from its seed."""
    from moto.moto_api._internal import mock_random

    mock_random.seed(moment.seed)
    _current.time = moment.time
    _current.numbers = random.Random(moment.seed + 1)
    try:
        yield
    finally:
        _current.time = None
        _current.numbers = None
        mock_random.seed()


def instrument() -> None:
    """Give the modules of moto that were loaded since the last call our clock and our random numbers."""
    global _seen
    if len(sys.modules) == _seen:
        return
    _seen = len(sys.modules)
    for name in [name for name in sys.modules if name.startswith("moto.") and name not in _instrumented]:
        module = sys.modules[name]
        _instrumented.add(name)
        for attribute, value in list(vars(module).items()):
            if isinstance(value, types.ModuleType | type | types.BuiltinFunctionType | types.FunctionType):
                substitute = _SUBSTITUTES.get(id(value))
                if substitute is not None:
                    setattr(module, attribute, substitute)


def _time() -> float:
    return real_time.time() if _current.time is None else _current.time


def _urandom(size: int) -> bytes:
    return real_os.urandom(size) if _current.numbers is None else _current.numbers.randbytes(size)


def _uuid4() -> real_uuid.UUID:
    return real_uuid.UUID(bytes=_urandom(16), version=4)


class _AsDatetime(type(real_datetime.datetime)):  # type: ignore[misc]
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, real_datetime.datetime)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, real_datetime.datetime)


class _Datetime(real_datetime.datetime, metaclass=_AsDatetime):
    """`datetime` as moto's modules see it; what it makes are real ones."""

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        return real_datetime.datetime(*arguments, **named)

    @classmethod
    def now(cls, tz: real_datetime.tzinfo | None = None) -> Any:
        return real_datetime.datetime.fromtimestamp(_time(), tz)

    @classmethod
    def today(cls) -> Any:
        return real_datetime.datetime.fromtimestamp(_time())

    @classmethod
    def utcnow(cls) -> Any:
        return real_datetime.datetime.fromtimestamp(_time(), real_datetime.UTC).replace(tzinfo=None)


def _copy_of(module: types.ModuleType, **replaced: Any) -> types.ModuleType:
    copy = types.ModuleType(module.__name__)
    vars(copy).update(vars(module))
    vars(copy).update(replaced)
    return copy


_SUBSTITUTES: dict[int, Any] = {
    id(real_datetime): _copy_of(real_datetime, datetime=_Datetime),
    id(real_datetime.datetime): _Datetime,
    id(real_time): _copy_of(
        real_time,
        time=_time,
        time_ns=lambda: int(_time() * 1e9),
        gmtime=lambda *at: real_time.gmtime(*(at or (_time(),))),
    ),
    id(real_time.time): _time,
    id(real_os): _copy_of(real_os, urandom=_urandom),
    id(real_os.urandom): _urandom,
    id(real_uuid): _copy_of(real_uuid, uuid4=_uuid4),
    id(real_uuid.uuid4): _uuid4,
}
