"""Where requests to an endpoint go: one service runs the endpoints, another invokes them; both use this."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from stagegate.local.sagemaker.model_process import ModelProcess
from stagegate.local.service import Runtime
from stagegate.local.store import Store

SERVING = ("InService", "Updating", "RollingBack")
"""The statuses in which an endpoint takes requests."""


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """The running variants of one endpoint config."""

    variants: Mapping[str, ModelProcess]
    weights: Mapping[str, float]
    data_capture: Mapping[str, Any] | None = None
    is_asynchronous: bool = False
    shadows: Mapping[str, ModelProcess] = field(default_factory=dict)
    shadow_weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def processes(self) -> dict[str, ModelProcess]:
        """All of them: the production variants' and the shadows'."""
        return {**self.variants, **self.shadows}

    def pick(self) -> str:
        """A variant, by the weights; the first one where no weight says anything."""
        if len(self.weights) == 1 or not sum(self.weights.values()):
            return next(iter(self.weights))
        return random.choices(list(self.weights), list(self.weights.values()))[0]


@dataclass(frozen=True, kw_only=True)
class Route:
    """The fleets that share an endpoint's traffic, each with its share; two of them while traffic shifts."""

    fleets: Sequence[tuple[Fleet, float]]

    def pick(self, variant: str | None = None) -> Fleet:
        """A fleet, by the shares; one that has the variant, where one is asked for and any has it."""
        if len(self.fleets) == 1:
            return self.fleets[0][0]
        having = [entry for entry in self.fleets if variant is None or variant in entry[0].variants]
        fleets = having or self.fleets
        if len(fleets) == 1:
            return fleets[0][0]
        return random.choices([fleet for fleet, _ in fleets], [share for _, share in fleets])[0]


@dataclass
class Routes:
    """The routes of the endpoints that are in service, by name."""

    _routes: dict[str, Route] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def get(self, endpoint: str) -> Route | None:
        return self._routes.get(endpoint)

    def put(self, endpoint: str, route: Route) -> None:
        self._routes[endpoint] = route
        self._wake()

    def delete(self, endpoint: str) -> None:
        self._routes.pop(endpoint, None)
        self._wake()

    async def change(self) -> None:
        """Return when any route has changed."""
        await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


_ROUTES: WeakKeyDictionary[Store, Routes] = WeakKeyDictionary()


def routes_of(runtime: Runtime) -> Routes:
    """The one `Routes` of a runtime, which its store stands for."""
    return _ROUTES.setdefault(runtime.store, Routes())
