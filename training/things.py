"""What stands in drawn scenes: houses, cars, lamps, trees and boats."""

import numpy as np

from training.scenery import Colour, Light, Pencil, Random, vary

WALLS: tuple[Colour, ...] = (
    (0.72, 0.62, 0.50),
    (0.62, 0.34, 0.27),
    (0.78, 0.76, 0.72),
    (0.50, 0.54, 0.60),
    (0.36, 0.44, 0.52),
    (0.80, 0.70, 0.48),
    (0.58, 0.60, 0.56),
)
PAINTS: tuple[Colour, ...] = (
    (0.7, 0.12, 0.1),
    (0.9, 0.9, 0.9),
    (0.1, 0.12, 0.14),
    (0.2, 0.35, 0.6),
    (0.85, 0.7, 0.15),
)


def tower(
    pencil: Pencil,
    random: Random,
    light: Light,
    left: float,
    top: float,
    right: float,
    bottom: float,
    haze: float,
) -> None:
    """A house front with its windows, and a roof or none."""
    wall = hazy(light.on(vary(random, WALLS[random.integers(len(WALLS))], 0.05)), light.horizon, haze)
    pencil.box(left, top, right, bottom, wall)
    if random.random() < 0.3:
        rise = random.uniform(0.03, 0.1)
        roof = hazy(light.on(vary(random, (0.42, 0.24, 0.20), 0.05)), light.horizon, haze)
        pencil.polygon([(left - 0.01, top), ((left + right) / 2, top - rise), (right + 0.01, top)], roof)
    edge = right - (right - left) * random.uniform(0.0, 0.25)
    pencil.box(edge, top, right, bottom, (wall[0] * 0.78, wall[1] * 0.78, wall[2] * 0.8))
    wide, high = random.uniform(0.022, 0.06), random.uniform(0.03, 0.07)
    pane = hazy(light.on(vary(random, (0.26, 0.34, 0.42), 0.06)), light.horizon, haze)
    share, lights_on = (
        random.uniform(0.45, 0.8),
        0.5 if light.is_dark else 0.15 if light.name == "dusk" else 0.0,
    )
    for y in np.arange(top + high * 0.5, bottom - high, high):
        for x in np.arange(left + wide * 0.3, right - wide * 0.8, wide):
            glass = (1.0, 0.85, 0.5) if random.random() < lights_on else pane
            pencil.box(float(x), float(y), float(x + wide * share), float(y + high * share), glass)


def row_of_houses(
    pencil: Pencil, random: Random, light: Light, vanish: float, horizon: float, side: int, reach: float
) -> None:
    """Fronts along the street, running to the vanishing point; the farthest is drawn first."""
    near = 0.06
    fronts = []
    while near < 1.6:
        far, near = near, near * random.uniform(1.35, 2.1)
        fronts.append((far, near, random.uniform(0.35, 0.9)))
    for far, near, height in fronts:
        wall = light.on(vary(random, WALLS[random.integers(len(WALLS))], 0.06), 0.95 if side > 0 else 0.82)
        x0, x1 = vanish + side * reach * far, vanish + side * reach * near
        y0, y1 = horizon + 0.5 * far, horizon + 0.5 * near
        t0, t1 = horizon - height * far, horizon - height * near
        pencil.polygon([(x0, y0), (x1, y1), (x1, t1), (x0, t0)], wall)
        pane = light.on(vary(random, (0.24, 0.30, 0.38), 0.05))
        rows, columns = random.integers(2, 6), random.integers(2, 4)
        for row in range(rows):
            for column in range(columns):
                u0, u1 = (column + 0.25) / columns, (column + 0.75) / columns
                v0, v1 = (row + 0.25) / (rows + 0.6), (row + 0.8) / (rows + 0.6)
                lit = random.random() < (0.45 if light.is_dark else 0.0)
                corners = [(u0, v0), (u1, v0), (u1, v1), (u0, v1)]
                points = [
                    (x0 + (x1 - x0) * u, (t0 + (t1 - t0) * u) * (1 - v) + (y0 + (y1 - y0) * u) * v)
                    for u, v in corners
                ]
                pencil.polygon(points, (1.0, 0.84, 0.5) if lit else pane)


def car(pencil: Pencil, random: Random, light: Light, x: float, y: float, width: float) -> None:
    paint = light.on(vary(random, PAINTS[random.integers(len(PAINTS))], 0.05))
    height = width * 0.55
    pencil.ellipse(x, y, width * 1.1, width * 0.16, light.on((0.14, 0.14, 0.15)))
    pencil.box(x - width / 2, y - height * 0.7, x + width / 2, y - height * 0.1, paint)
    roof = [(x - width * 0.4, y - height * 0.65), (x - width * 0.3, y - height * 1.15)]
    pencil.polygon([*roof, (x + width * 0.3, y - height * 1.15), (x + width * 0.4, y - height * 0.65)], paint)
    pencil.box(
        x - width * 0.28, y - height * 1.05, x + width * 0.28, y - height * 0.7, light.on((0.3, 0.38, 0.45))
    )
    lamp = (1.0, 0.95, 0.7) if light.is_dark else light.on((0.8, 0.3, 0.25))
    for side in (-1, 1):
        pencil.ellipse(x + side * width * 0.4, y - height * 0.45, width * 0.12, width * 0.1, lamp)
        pencil.box(
            x + side * width * 0.36 - width * 0.08,
            y - height * 0.15,
            x + side * width * 0.36 + width * 0.08,
            y,
            (0.08, 0.08, 0.08),
        )


def lamp(pencil: Pencil, light: Light, x: float, y: float, height: float, towards: int) -> None:
    arm = x + towards * height * 0.18
    pencil.line([(x, y), (x, y - height), (arm, y - height * 1.04)], light.on((0.28, 0.29, 0.30)), 0.01)
    pencil.ellipse(
        arm, y - height * 1.03, 0.03, 0.015, (1.0, 0.9, 0.65) if light.is_dark else light.on((0.8, 0.8, 0.78))
    )


def trunk(pencil: Pencil, random: Random, light: Light, depth: float, floor: float) -> None:
    x, width = random.uniform(0, 1), 0.012 + 0.08 * depth**2 * random.uniform(0.5, 1.2)
    foot = floor + (1.05 - floor) * depth**1.5
    bark = vary(random, (0.80, 0.78, 0.74) if random.random() < 0.15 else (0.28, 0.21, 0.16), 0.05)
    tone = light.on(hazy(bark, light.horizon, 0.35 * (1 - depth)))
    lean = random.normal(0, 0.03)
    pencil.polygon(
        [
            (x - width / 2, foot),
            (x + width / 2, foot),
            (x + lean + width * 0.3, -0.05),
            (x + lean - width * 0.3, -0.05),
        ],
        tone,
    )
    dark = (tone[0] * 0.7, tone[1] * 0.7, tone[2] * 0.72)
    pencil.polygon(
        [(x, foot), (x + width / 2, foot), (x + lean + width * 0.3, -0.05), (x + lean, -0.05)], dark
    )


def conifer(
    pencil: Pencil, random: Random, light: Light, x: float, y: float, height: float, colour: Colour
) -> None:
    tone = light.on(vary(random, colour, 0.03))
    dark = (tone[0] * 0.72, tone[1] * 0.74, tone[2] * 0.76)
    pencil.box(x - height * 0.03, y - height * 0.12, x + height * 0.03, y, light.on((0.24, 0.18, 0.13)))
    for tier in range(3):
        base, tip = y - height * (0.08 + 0.24 * tier), y - height * (0.5 + 0.25 * tier)
        half = height * (0.24 - 0.06 * tier)
        pencil.polygon([(x - half, base), (x, tip), (x + half, base)], tone)
        pencil.polygon([(x, tip), (x + half, base), (x + half * 0.15, base)], dark)


def round_tree(
    pencil: Pencil,
    random: Random,
    light: Light,
    x: float,
    y: float,
    height: float,
    colour: Colour = (0.22, 0.38, 0.15),
) -> None:
    pencil.box(x - height * 0.05, y - height * 0.4, x + height * 0.05, y, light.on((0.30, 0.22, 0.16)))
    for shade in (0.7, 0.85, 0.95, 1.05, 1.2):
        dx, dy = random.normal(0, 0.12, 2) * height
        leaf = light.on(vary(random, colour, 0.03), shade)
        pencil.ellipse(
            x + dx, y - height * 0.68 + dy - (shade - 0.9) * 0.15 * height, height * 0.5, height * 0.45, leaf
        )


def boat(pencil: Pencil, random: Random, light: Light, x: float, y: float) -> None:
    size = 0.03 + (random.random() ** 2) * 0.14
    hull = light.on(vary(random, PAINTS[random.integers(len(PAINTS))], 0.05))
    pencil.polygon(
        [(x - size, y - size * 0.3), (x + size, y - size * 0.3), (x + size * 0.7, y), (x - size * 0.7, y)],
        hull,
    )
    pencil.line([(x, y - size * 0.3), (x, y - size * 2)], light.on((0.3, 0.24, 0.2)), 0.006)
    cloth = light.on(vary(random, (0.94, 0.93, 0.90), 0.04))
    pencil.polygon(
        [(x + 0.004, y - size * 2), (x + 0.004, y - size * 0.45), (x + size * 0.9, y - size * 0.45)], cloth
    )


def hazy(colour: Colour, air: Colour, haze: float) -> Colour:
    red, green, blue = (c + (a - c) * haze for c, a in zip(colour, air, strict=True))
    return (red, green, blue)
