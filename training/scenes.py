"""Six kinds of scenes, drawn at random: no two are the same, and some could pass for another kind."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from training.scenery import (
    SIZE,
    Array,
    Colour,
    Light,
    Pencil,
    Random,
    X,
    Y,
    below,
    clutter,
    cover,
    hills,
    noise,
    peaks,
    photograph,
    ridge,
    sky,
    some_light,
    tinted,
    vary,
    weather,
)
from training.things import boat, car, conifer, lamp, round_tree, row_of_houses, tower, trunk


def draw_scene(name: str, random: Random) -> Image.Image:
    """A photograph of a scene of this kind."""
    scene, light = SCENES[name](random)
    return photograph(clutter(weather(scene, random, light), random, light), random)


def buildings(random: Random) -> tuple[Array, Light]:
    """Towers, a row of houses, or one facade; sometimes with the road in front of them."""
    light = some_light(random, noon=4, morning=2, overcast=3, dusk=2, night=2)
    scene = sky(random, light, 0.9)
    ground = random.uniform(0.84, 1.02)
    pencil = Pencil(scene)
    view = random.random()
    if view < 0.4:
        for depth in np.linspace(0, 1, random.integers(5, 11)):
            width = random.uniform(0.12, 0.3) * (0.6 + 0.6 * depth)
            left = random.uniform(-0.1, 1.0 - width / 2)
            top = random.uniform(0.08, 0.62)
            far = 1 - 0.5 * float(depth)
            tower(pencil, random, light, left, top, left + width, ground, haze=0.5 * far)
    elif view < 0.75:
        left = random.uniform(-0.2, 0)
        while left < 1:
            width = random.uniform(0.2, 0.5)
            tower(pencil, random, light, left, random.uniform(0.12, 0.5), left + width, ground, haze=0.0)
            left += width + random.uniform(0, 0.03)
    else:
        top = random.uniform(-0.3, 0.25)
        left = random.uniform(-0.3, 0.2)
        tower(pencil, random, light, left, top, left + random.uniform(0.7, 1.2), ground, haze=0.0)
        if random.random() < 0.6:
            tower(pencil, random, light, random.uniform(0.5, 0.9), 0.3, 1.2, ground, haze=0.15)
    if ground < 1:
        road = random.random() < 0.6
        surface = (0.30, 0.30, 0.31) if road else (0.46, 0.48, 0.36)
        pencil.box(-0.1, ground, 1.1, 1.1, light.on(vary(random, surface, 0.04)))
        for _ in range(random.integers(0, 4) if road else 0):
            car(pencil, random, light, random.uniform(0, 1), ground + 0.05, random.uniform(0.06, 0.11))
    for _ in range(random.integers(0, 4)):
        round_tree(pencil, random, light, random.uniform(0, 1), ground + 0.02, random.uniform(0.08, 0.2))
    return pencil.scene(), light


def street(random: Random) -> tuple[Array, Light]:
    """A road that runs away from the camera, between houses or past them."""
    light = some_light(random, noon=4, morning=2, overcast=3, dusk=2, night=2)
    horizon = random.uniform(0.42, 0.66)
    vanish = random.uniform(0.3, 0.7)
    if random.random() < 0.14:
        return _across_the_street(random, light), light
    scene = sky(random, light, horizon)
    pencil = Pencil(scene)
    for _ in range(random.integers(1, 5)):
        left, width = vanish + random.uniform(-0.25, 0.15), random.uniform(0.08, 0.2)
        top = horizon - random.uniform(0.06, 0.3)
        tower(pencil, random, light, left, top, left + width, horizon + 0.01, haze=0.4)
    half = random.uniform(0.35, 0.8)  # of the road at the lower edge
    curb = random.uniform(0.12, 0.3)
    pencil.box(-0.1, horizon, 1.1, 1.1, light.on(vary(random, (0.52, 0.50, 0.47), 0.05)))
    for side in (-1, 1):
        if random.random() < 0.85:
            row_of_houses(pencil, random, light, vanish, horizon, side, half + curb)
    asphalt = light.on(vary(random, (0.30, 0.30, 0.32), 0.05))
    near_left, near_right = vanish - half, vanish + half
    pencil.polygon(
        [(vanish - 0.012, horizon), (vanish + 0.012, horizon), (near_right, 1.1), (near_left, 1.1)], asphalt
    )
    paint = light.on((0.88, 0.87, 0.80))
    for near in np.linspace(0.05, 1, 7) ** 2:
        y0, y1 = horizon + (1.1 - horizon) * near, horizon + (1.1 - horizon) * min(1, near * 1.35)
        w0, w1 = 0.012 * near, 0.012 * min(1, near * 1.35)
        pencil.polygon([(vanish - w0, y0), (vanish + w0, y0), (vanish + w1, y1), (vanish - w1, y1)], paint)
    if random.random() < 0.25:
        y = random.uniform(0.8, 0.92)
        reach = half * (y - horizon) / (1.1 - horizon)
        for k in np.linspace(-0.9, 0.9, 8):
            x = vanish + reach * float(k)
            pencil.polygon([(x, y), (x + 0.04, y), (x + 0.05, y + 0.07), (x, y + 0.07)], paint)
    for near in sorted(random.uniform(0.05, 0.75, random.integers(0, 6))):
        y = horizon + (1.05 - horizon) * near
        lane = random.choice([-0.85, -0.45, 0.45, 0.85])
        car(pencil, random, light, vanish + lane * half * near, y, 0.05 + 0.2 * near)
    for near in sorted(random.uniform(0.1, 0.7, random.integers(0, 5))):
        side = random.choice([-1, 1])
        x, y = vanish + side * (half + curb * 0.6) * near, horizon + (1.1 - horizon) * near
        if random.random() < 0.5:
            lamp(pencil, light, x, y, 0.15 + 0.6 * near, -side)
        else:
            round_tree(pencil, random, light, x, y, 0.08 + 0.35 * near)
    return pencil.scene(), light


def forest(random: Random) -> tuple[Array, Light]:
    """Trunks close by, or a slope of trees; in green, in autumn, or under snow."""
    light = some_light(random, noon=4, morning=3, overcast=4, dusk=1)
    seasons: list[Colour] = [(0.20, 0.36, 0.14), (0.28, 0.44, 0.16), (0.62, 0.40, 0.12), (0.14, 0.28, 0.18)]
    leaf = vary(random, seasons[random.choice(4, p=[0.4, 0.25, 0.15, 0.2])], 0.05)
    if random.random() < 0.5:
        # Inside: leaves and their light all over, trunks before them, the ground below
        dapple = 0.75 + 0.4 * noise(random, 14, 14, 3)
        scene = tinted(np.clip(dapple, 0.15, 1.7), light.on(leaf))
        gaps = np.clip(noise(random, 9, 9, 3) * 1.6 - random.uniform(0.5, 1.1), 0, 1) * np.clip(
            1 - Y * 1.4, 0, 1
        )
        scene = cover(scene, light.horizon, gaps)
        floor = random.uniform(0.62, 0.85)
        earth = vary(random, ((0.36, 0.28, 0.18), (0.30, 0.36, 0.16))[random.integers(2)], 0.05)
        ground = tinted(0.85 + 0.3 * noise(random, 20, 40, 2), light.on(earth))
        scene = cover(scene, ground, below(floor + 0.03 * ridge(random, 3), 0.04))
        pencil = Pencil(scene)
        for depth in np.sort(random.random(random.integers(7, 22))):
            trunk(pencil, random, light, float(depth), floor)
        scene = pencil.scene()
        leaves = np.clip(noise(random, 24, 24, 2) * 2 - random.uniform(0.2, 1.2), 0, 1) * np.clip(
            1.1 - Y * 1.6, 0, 1
        )
        return cover(scene, light.on(leaf, 1.15), leaves), light
    # Outside: rows of trees on a slope
    top = random.uniform(0.1, 0.5)
    scene = sky(random, light, top + 0.2)
    if random.random() < 0.4:
        scene = hills(scene, random, light, top=top, height=0.12, colour=(0.36, 0.42, 0.44), haze=0.45)
    snowy = random.random() < 0.15
    pencil = Pencil(scene)
    conifers = random.random() < 0.65
    for row in np.linspace(0, 1, 7):
        y = top + 0.12 + (1.0 - top) * float(row)
        size = 0.10 + 0.30 * float(row) * random.uniform(0.7, 1.2)
        pencil.box(-0.1, y - size * 0.3, 1.1, 1.1, light.on(leaf, 0.55))
        for x in np.arange(-0.05, 1.05, size * 0.28):
            at = float(x) + random.normal(0, 0.02), y + random.normal(0, 0.02)
            green = vary(random, leaf, 0.06)
            green = tuple(0.35 * g + 0.6 for g in green) if snowy and random.random() < 0.6 else green  # type: ignore[assignment]
            if conifers:
                conifer(pencil, random, light, at[0], at[1], size, green)
            else:
                round_tree(pencil, random, light, at[0], at[1], size * 0.8, green)
    haze = np.clip((top + 0.45 - Y) * random.uniform(0, 1.2), 0, 0.5) * below(top, 0.05)
    return cover(pencil.scene(), light.horizon, haze), light


def mountain(random: Random) -> tuple[Array, Light]:
    """A range with snow on it, over woods, meadows, or a lake."""
    light = some_light(random, noon=5, morning=3, overcast=3, dusk=2)
    top = random.uniform(0.2, 0.42)
    scene = sky(random, light, top + 0.3)
    snow = random.choice([0.02, 0.12, 0.25, 0.6], p=[0.22, 0.32, 0.24, 0.22])
    rock = vary(random, ((0.42, 0.38, 0.36), (0.36, 0.38, 0.42), (0.48, 0.40, 0.32))[random.integers(3)])
    if random.random() < 0.7:
        scene = _massif(scene, random, light, top=top + 0.04, height=0.22, rock=rock, snow=snow, haze=0.45)
    scene = _massif(
        scene,
        random,
        light,
        top=top + 0.16,
        height=random.uniform(0.35, 0.6),
        rock=rock,
        snow=snow,
        haze=0.12,
    )
    foot = random.uniform(0.66, 0.95)
    kind = random.random()
    if kind < 0.4:
        wood = vary(random, (0.18, 0.29, 0.17), 0.04)
        scene = hills(scene, random, light, top=foot, height=0.06, colour=wood, haze=0.1)
        if random.random() < 0.5:
            pencil = Pencil(scene)
            for x in random.uniform(0, 1, random.integers(5, 30)):
                conifer(
                    pencil,
                    random,
                    light,
                    float(x),
                    random.uniform(foot + 0.05, 1.02),
                    random.uniform(0.08, 0.2),
                    wood,
                )
            scene = pencil.scene()
    elif kind < 0.65:
        scene = hills(scene, random, light, top=foot, height=0.08, colour=(0.44, 0.50, 0.24), haze=0.05)
    elif kind < 0.8:
        mirrored = scene[::-1]
        line = foot - 0.05
        shift = int((2 * line - 1) * len(scene))
        lake = cover(np.roll(mirrored, shift, axis=0), light.on((0.20, 0.34, 0.42)), 0.5)
        lake = lake * (1 + 0.12 * noise(random, 4, 50)[..., None])
        scene = cover(scene, lake, below(line, 0.012))
    return scene, light


def glacier(random: Random) -> tuple[Array, Light]:
    """A river of ice between mountains, a wall of ice over water, or a field of it."""
    light = some_light(random, noon=5, morning=2, overcast=5, dusk=1)
    top = random.uniform(0.18, 0.4)
    scene = sky(random, light, top + 0.3)
    rock = vary(random, ((0.36, 0.36, 0.38), (0.32, 0.36, 0.42), (0.42, 0.38, 0.35))[random.integers(3)])
    snow = random.choice([0.15, 0.35, 0.6])
    scene = _massif(
        scene,
        random,
        light,
        top=top + 0.08,
        height=random.uniform(0.15, 0.4),
        rock=rock,
        snow=snow,
        haze=0.25,
    )
    view = random.random()
    if view < 0.45:
        # The river: wide at the front, curved, with crevasses across it
        head, middle = top + random.uniform(0.14, 0.24), random.uniform(0.35, 0.65)
        along = np.clip((Y - head) / (1 - head), 0, 1)
        centre = middle + random.uniform(-0.25, 0.25) * along + 0.06 * np.sin(along * random.uniform(3, 7))
        half = 0.06 + random.uniform(0.3, 0.6) * along**1.3
        river = np.clip((half - np.abs(X - centre)) / 0.02 + 0.5, 0, 1) * below(head, 0.03)
        return cover(scene, _ice(random, light, bend=(X - centre) / half), river), light
    if view < 0.8:
        # The wall, cracked from top to bottom, and the water before it
        brow, foot = random.uniform(0.4, 0.58), random.uniform(0.68, 0.88)
        wall = _ice(random, light, bend=None)
        blue = np.clip((Y - brow) / (foot - brow), 0, 1) * random.uniform(0.2, 0.6)
        wall = cover(wall, light.on((0.42, 0.66, 0.82)), blue)
        scene = cover(scene, wall, below(brow + 0.05 * ridge(random, 6, 5, 0.6)))
        water = tinted(0.85 + 0.2 * noise(random, 5, 45, 2), light.on(vary(random, (0.26, 0.42, 0.50))))
        scene = cover(scene, water, below(foot, 0.012))
        pencil = Pencil(scene)
        for _ in range(random.integers(0, 9)):
            x, y, size = random.uniform(0, 1), random.uniform(foot + 0.02, 1), random.uniform(0.02, 0.1)
            top_at = x + random.uniform(-size, size) / 2
            pencil.polygon(
                [(x - size, y), (top_at, y - size * 0.8), (x + size, y)], light.on((0.88, 0.94, 0.98))
            )
            pencil.polygon([(top_at, y - size * 0.8), (x + size, y), (x, y)], light.on((0.66, 0.80, 0.90)))
        return pencil.scene(), light
    field = top + random.uniform(0.15, 0.3)
    line = field + 0.05 * ridge(random, 2, 3, 0.4)
    return cover(scene, _ice(random, light, bend=(X - 0.5) * random.uniform(-1, 1)), below(line, 0.02)), light


def sea(random: Random) -> tuple[Array, Light]:
    """Water to the horizon, with waves, and perhaps a beach, an island, a boat."""
    light = some_light(random, noon=5, morning=2, overcast=4, dusk=4, night=1)
    horizon = random.uniform(0.25, 0.6)
    scene = sky(random, light, horizon)
    if random.random() < 0.35:
        colour: Colour = (0.36, 0.38, 0.34)
        land = (
            horizon
            - 0.01
            - random.uniform(0.03, 0.16) * np.clip(ridge(random, 2, 4) + random.uniform(-0.4, 0.5), 0, 2)
        )
        shade = tinted(0.9 + 0.25 * noise(random, 18, 18, 2), light.on(colour))
        scene = cover(scene, cover(shade, light.horizon, random.uniform(0.1, 0.5)), below(land))
    depth = np.clip((Y - horizon) / (1 - horizon), 0, 1)
    deep = vary(random, ((0.10, 0.28, 0.42), (0.10, 0.40, 0.46), (0.24, 0.34, 0.38))[random.integers(3)])
    waves = (
        noise(random, 4, 60) * (0.4 + 0.6 * (1 - depth))
        + noise(random, 7, 26) * depth
        + noise(random, 14, 40) * 0.4
    )
    water = tinted(0.95 + random.uniform(0.1, 0.3) * waves, light.on(deep))
    water = cover(water, light.horizon, (1 - depth) ** 3 * 0.55)
    crests = np.clip(waves * 1.5 - random.uniform(0.9, 2.0), 0, 1) * np.sqrt(depth)
    water = cover(water, light.on((0.95, 0.97, 0.98)), crests)
    if light.name in ("dusk", "morning") or random.random() < 0.2:
        x = random.uniform(0.2, 0.8)
        path = np.exp(-(((X - x) / (0.05 + 0.15 * depth)) ** 2)) * np.clip(waves + 0.4, 0, 1)
        water = cover(water, (1.0, 0.88, 0.68), np.clip(path, 0, 0.85))
    scene = cover(scene, water, below(horizon, 0.012))
    if random.random() < 0.4:
        shore = (
            random.uniform(0.7, 0.95)
            + random.uniform(-0.35, 0.35) * (X[0] - 0.5)
            + 0.02 * ridge(random, 3, 3)
        )
        foam = below(shore - 0.05, 0.04) * np.clip(0.7 + noise(random, 20, 30, 2), 0, 1)
        scene = cover(scene, light.on((0.95, 0.96, 0.96)), foam)
        sand = tinted(0.95 + 0.08 * noise(random, 30, 30, 2), light.on(vary(random, (0.82, 0.72, 0.54))))
        scene = cover(scene, sand, below(shore + 0.01, 0.02))
    pencil = Pencil(scene)
    for _ in range(random.choice([0, 0, 1, 1, 3])):
        boat(pencil, random, light, random.uniform(0.1, 0.9), horizon + random.uniform(0.0, 0.2))
    return pencil.scene(), light


SCENES: dict[str, Callable[[Random], tuple[Array, Light]]] = {
    "buildings": buildings,
    "forest": forest,
    "glacier": glacier,
    "mountain": mountain,
    "sea": sea,
    "street": street,
}


def _across_the_street(random: Random, light: Light) -> Array:
    """The houses on the other side, over the road: what could be called buildings, too."""
    scene = sky(random, light, 0.9)
    curb = random.uniform(0.66, 0.8)
    pencil = Pencil(scene)
    left = random.uniform(-0.2, 0)
    while left < 1:
        width = random.uniform(0.2, 0.45)
        tower(pencil, random, light, left, random.uniform(0.12, 0.45), left + width, curb, haze=0.0)
        left += width + random.uniform(0, 0.03)
    pencil.box(-0.1, curb, 1.1, curb + 0.04, light.on(vary(random, (0.56, 0.54, 0.51), 0.04)))
    pencil.box(-0.1, curb + 0.04, 1.1, 1.1, light.on(vary(random, (0.30, 0.30, 0.32), 0.05)))
    for x in np.arange(random.uniform(-0.1, 0.1), 1, 0.22):
        pencil.box(float(x), 0.9, float(x) + 0.1, 0.915, light.on((0.88, 0.87, 0.80)))
    for _ in range(random.integers(1, 5)):
        car(
            pencil,
            random,
            light,
            random.uniform(0, 1),
            curb + random.uniform(0.08, 0.14),
            random.uniform(0.09, 0.16),
        )
    for _ in range(random.integers(0, 3)):
        lamp(
            pencil,
            light,
            random.uniform(0.05, 0.95),
            curb + 0.04,
            random.uniform(0.3, 0.45),
            random.choice([-1, 1]),
        )
    return pencil.scene()


def _massif(
    scene: Array,
    random: Random,
    light: Light,
    *,
    top: float,
    height: float,
    rock: Colour,
    snow: float,
    haze: float,
) -> Array:
    """A range of rock, lit from one side, with snow down to `snow` below its ridge."""
    line = top + height * (0.55 - peaks(random, random.integers(2, 6)))
    depth = Y - line
    crags = noise(random, 9, 9, 4)
    # A face looks the way that the outline above it does, a little to the side: that makes its spurs.
    steepness = np.gradient(line) * SIZE
    above = np.clip((X + 0.09 * crags + 0.1 * noise(random, 3, 3) * depth) * SIZE, 0, SIZE - 1).astype(int)
    slope = steepness[above] * 2.2 + np.gradient(crags, axis=1) * 6
    lit = np.clip(0.74 + (0.42 if light.from_left else -0.42) * np.tanh(-slope), 0.3, 1.2)
    stone = tinted(lit, light.on(rock))
    white = tinted(np.clip(0.5 + 0.5 * lit, 0.5, 1.05), light.on((0.93, 0.96, 1.0)))
    lying = np.clip((snow - depth + 0.10 * noise(random, 12, 12, 3) - 0.03 * np.abs(slope)) / 0.03, 0, 1)
    mass = cover(cover(stone, white, lying), light.horizon, haze + 0.25 * np.clip(depth, 0, 1))
    return cover(scene, mass, below(line))


def _ice(random: Random, light: Light, bend: Array | None) -> Array:
    """A surface of ice; `bend` (-1 to 1 across it) curves its crevasses, none makes them run down."""
    grain = noise(random, 8, 8, 4)
    shade = 0.90 + 0.10 * grain
    count = random.uniform(9, 26)
    phase = (Y + 0.12 * bend**2 if bend is not None else X * 1.2) * count + grain * random.uniform(0.6, 1.4)
    cracks = (
        np.clip(np.abs(np.sin(phase * np.pi / 2)) - 0.82, 0, 1)
        * 4
        * np.clip(0.6 + noise(random, 7, 7, 2), 0, 1)
    )
    ice = tinted(shade, light.on(vary(random, (0.86, 0.92, 0.97), 0.04)))
    ice = cover(ice, light.on(vary(random, (0.44, 0.62, 0.76), 0.05)), np.clip(cracks, 0, 0.8))
    dirt = np.clip(noise(random, 3, 10, 2) - random.uniform(0.3, 1.1), 0, 0.6)
    return cover(ice, light.on((0.45, 0.42, 0.40)), dirt)
