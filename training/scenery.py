"""What drawn scenes are made of: light, noise, ridges, a pencil, weather, and the camera.

A scene is an array of SIZE×SIZE×3 floats from 0 to 1. Soft things (sky, rock, water) are computed;
things with edges (houses, trees, cars) are drawn at twice the size and made smaller again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

SIZE = 150
ZOOM = 2  # of the pencil's canvas

Array = NDArray[np.float32]
Random = np.random.Generator
Colour = tuple[float, float, float]
Point = tuple[float, float]

Y, X = (np.mgrid[0:SIZE, 0:SIZE] / SIZE).astype(np.float32)  # 0 to 1, from the top and from the left


@dataclass(frozen=True, kw_only=True)
class Light:
    """The time of day: the sky's colours, what the light does to other colours, and from where it comes."""

    name: str
    zenith: Colour
    horizon: Colour
    tint: Colour
    from_left: bool = True

    @property
    def is_dark(self) -> bool:
        return self.name == "night"

    def on(self, colour: Colour, strength: float = 1.0) -> Colour:
        """A colour in this light."""
        red, green, blue = (c * t * strength for c, t in zip(colour, self.tint, strict=True))
        return (red, green, blue)


LIGHTS = {
    "noon": ((0.24, 0.50, 0.84), (0.72, 0.85, 0.95), (1.0, 1.0, 1.0)),
    "morning": ((0.45, 0.62, 0.84), (0.98, 0.88, 0.76), (1.04, 0.97, 0.88)),
    "overcast": ((0.62, 0.66, 0.70), (0.82, 0.83, 0.84), (0.84, 0.86, 0.88)),
    "dusk": ((0.25, 0.25, 0.46), (0.96, 0.60, 0.38), (0.86, 0.66, 0.58)),
    "night": ((0.04, 0.06, 0.15), (0.15, 0.19, 0.33), (0.36, 0.41, 0.56)),
}


def some_light(random: Random, **weights: float) -> Light:
    """A time of day, drawn by weight."""
    names = list(weights)
    chances = np.array([weights[name] for name in names])
    name = names[random.choice(len(names), p=chances / chances.sum())]
    zenith, horizon, tint = (vary(random, colour, 0.05) for colour in LIGHTS[name])
    return Light(name=name, zenith=zenith, horizon=horizon, tint=tint, from_left=bool(random.random() < 0.5))


def vary(random: Random, colour: Colour, amount: float = 0.06) -> Colour:
    """A colour like this one."""
    brightness, *shifts = (random.standard_normal(4) * amount).tolist()
    red, green, blue = (
        min(max(c + brightness + shift / 2, 0.0), 1.1) for c, shift in zip(colour, shifts, strict=True)
    )
    return (red, green, blue)


def noise(random: Random, columns: float, rows: float, octaves: int = 1) -> Array:
    """Smooth noise of about -1 to 1 over the scene; `columns`×`rows` hills, finer ones at half the height."""
    total = np.zeros((SIZE, SIZE), np.float32)
    for octave in range(octaves):
        cells = (max(2, round(rows * 2**octave)) + 1, max(2, round(columns * 2**octave)) + 1)
        field = Image.fromarray(random.uniform(-1, 1, cells).astype(np.float32))
        total += np.asarray(field.resize((SIZE, SIZE), Image.Resampling.BICUBIC)) * 0.5**octave
    return total


def ridge(random: Random, peaks: float, octaves: int = 5, roughness: float = 0.5) -> Array:
    """A jagged line of about -1 to 1, a value for each column."""
    total = np.zeros(SIZE, np.float32)
    for octave in range(octaves):
        points = max(2, round(peaks * 2**octave)) + 2
        heights = random.uniform(-1, 1, points)
        at = np.linspace(0, points - 2, SIZE) + random.uniform(0, 1)
        total += (np.interp(at, np.arange(points), heights) * roughness**octave).astype(np.float32)
    return total / 1.5


def peaks(random: Random, count: int) -> Array:
    """The outline of mountains, a height of 0 to 1 for each column."""
    outline = np.zeros(SIZE, np.float32)
    for number in range(count):
        height = 1.0 if number == 0 else random.uniform(0.35, 0.9)
        at, left, right = random.uniform(0.05, 0.95), *random.uniform(1.0, 2.6, 2)
        distance = X[0] - at
        slope = np.where(distance < 0, -distance * left, distance * right)
        outline = np.maximum(outline, height - slope)
    return np.clip(outline + 0.16 * ridge(random, 5, 4, 0.55), 0, 1.1).astype(np.float32)


def below(line: Array | float, softness: float = 0.01) -> Array:
    """A mask: 1 where a place is lower in the scene than the line, with a soft edge."""
    return np.clip((Y - line) / softness + 0.5, 0, 1).astype(np.float32)


def cover(scene: Array, colour: Colour | Array, mask: Array | float = 1.0) -> Array:
    """The scene with a colour, or another scene, laid over it where the mask is."""
    below, above, alpha = _rows(scene), _rows(colour), _rows(mask)
    return (below + (above - below) * alpha).reshape(scene.shape)


def tinted(shade: Array, colour: Colour) -> Array:
    """A colour in the shades of a field."""
    return (_rows(shade) * _rows(colour)).reshape(SIZE, SIZE, 3)


def _rows(values: Array | Colour | float) -> Array:
    """A scene, a field, a colour or a number as something that is fast to combine: long rows of floats."""
    array = np.asarray(values, np.float32)
    if array.ndim == 3:
        return array.reshape(SIZE, SIZE * 3)
    if array.ndim == 2:
        return np.repeat(array, 3, axis=1)
    return np.tile(array, SIZE) if array.ndim == 1 else array


def sky(random: Random, light: Light, horizon: float = 0.6) -> Array:
    """The sky down to the horizon, with clouds, and a sun or stars."""
    height = np.clip(Y / max(horizon, 0.05), 0, 1) ** random.uniform(0.7, 1.5)
    scene = np.asarray(light.zenith, np.float32) * (1 - height)[..., None] + tinted(height, light.horizon)
    if light.is_dark:
        scene = scene + 0.6 * ((random.random((SIZE, SIZE)) > 0.996) * (horizon > Y))[..., None]
    elif random.random() < (0.8 if light.name == "dusk" else 0.25):
        x, y = random.uniform(0.1, 0.9), horizon * random.uniform(0.3, 0.95)
        distance = np.hypot(X - x, Y - y)
        glow = np.clip(np.exp(-distance * 7) * 0.8 + (distance < random.uniform(0.025, 0.05)), 0, 1)
        scene = cover(scene, (1.0, 0.93, 0.76), glow)
    cover_of_clouds = random.uniform(-0.5, 0.5) + (0.3 if light.name == "overcast" else 0)
    shape = noise(random, random.uniform(1.5, 4), random.uniform(4, 9), 4)
    clouds = np.clip((shape + cover_of_clouds) * 1.3, 0, 0.85) * np.clip(1.2 - Y / horizon * 0.7, 0, 1)
    brightness = 0.18 if light.is_dark else random.uniform(0.82, 1.0)
    warm = cover(np.full_like(scene, brightness), light.horizon, 0.35)
    return cover(scene, warm * (0.95 + 0.1 * shape[..., None]), clouds)


def hills(
    scene: Array, random: Random, light: Light, *, top: float, height: float, colour: Colour, haze: float
) -> Array:
    """Distant hills, paler the farther they are."""
    line = top + height * ridge(random, random.uniform(1, 3), 4, 0.4)
    shade = 0.9 + 0.14 * noise(random, 20, 20, 2)
    far = cover(tinted(shade, light.on(colour)), light.horizon, haze)
    return cover(scene, far, below(line))


class Pencil:
    """Draws on a scene in its own coordinates (0 to 1), without jagged edges."""

    def __init__(self, scene: Array) -> None:
        pixels = Image.fromarray((np.clip(scene, 0, 1) * 255).astype(np.uint8))
        self.image = pixels.resize((SIZE * ZOOM, SIZE * ZOOM), Image.Resampling.NEAREST)
        self.canvas = ImageDraw.Draw(self.image)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        self.canvas.polygon([_place(point) for point in points], fill=_ink(colour))

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        if right > left and bottom > top:
            self.canvas.rectangle([_place((left, top)), _place((right, bottom))], fill=_ink(colour))

    def ellipse(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        corners = [_place((x - width / 2, y - height / 2)), _place((x + width / 2, y + height / 2))]
        self.canvas.ellipse(corners, fill=_ink(colour))

    def line(self, points: Sequence[Point], colour: Colour, width: float = 0.005) -> None:
        thickness = max(1, round(width * SIZE * ZOOM))
        self.canvas.line(
            [_place(point) for point in points], fill=_ink(colour), width=thickness, joint="curve"
        )

    def scene(self) -> Array:
        return np.asarray(self.image.reduce(ZOOM), np.float32) / 255


def weather(scene: Array, random: Random, light: Light) -> Array:
    """Haze, fog, rain or snow, on some days."""
    day = random.random()
    if day < 0.22:
        veil = np.clip(random.uniform(0.1, 0.5) + 0.25 * noise(random, 2, 3, 2), 0, 0.7)
        scene = cover(scene, cover(np.zeros_like(scene), light.horizon, 0.95), veil)
    elif day < 0.30:
        pencil = Pencil(scene)
        slant = random.uniform(-0.03, 0.03)
        for x, y in random.random((random.integers(40, 120), 2)):
            at = float(x), float(y)
            pencil.line([at, (at[0] + slant, at[1] + 0.05)], light.on((0.78, 0.82, 0.86)), 0.004)
        scene = cover(scene, pencil.scene(), 0.5)
    elif day < 0.38:
        pencil = Pencil(scene)
        for x, y, width in random.random((random.integers(30, 110), 3)):
            size = 0.006 + 0.016 * float(width) ** 3
            pencil.ellipse(float(x), float(y), size, size, light.on((0.98, 0.98, 1.0)))
        scene = cover(scene, pencil.scene(), 0.8)
    return scene


def clutter(scene: Array, random: Random, light: Light) -> Array:
    """Something that happened to be in front of the camera: birds, a branch, a pole, a passer-by."""
    kind = random.random()
    if kind >= 0.32:
        return scene
    pencil = Pencil(scene)
    dark = light.on((0.13, 0.13, 0.12))
    if kind < 0.10:
        for _ in range(random.integers(2, 7)):
            x, y, wing = random.uniform(0.1, 0.9), random.uniform(0.05, 0.35), random.uniform(0.012, 0.025)
            pencil.line([(x - wing, y - wing / 2), (x, y), (x + wing, y - wing / 2)], dark, 0.006)
    elif kind < 0.18:
        side = float(random.random() < 0.5)
        for _ in range(random.integers(12, 30)):
            x, y = abs(side - random.uniform(0, 0.3)), random.uniform(0, 0.22)
            green = light.on(vary(random, (0.18, 0.30, 0.12)))
            pencil.ellipse(x, y, random.uniform(0.03, 0.08), random.uniform(0.02, 0.05), green)
    elif kind < 0.24:
        x = random.uniform(0.05, 0.95)
        pencil.line([(x, -0.05), (x + random.normal(0, 0.01), 1.05)], dark, random.uniform(0.008, 0.022))
    else:
        x, height = random.uniform(0.1, 0.9), random.uniform(0.08, 0.2)
        cloth = light.on(vary(random, (0.45, 0.3, 0.3), 0.2))
        pencil.box(x - height * 0.1, 0.97 - height, x + height * 0.1, 1.0, cloth)
        pencil.ellipse(x, 0.96 - height, height * 0.17, height * 0.2, light.on((0.75, 0.58, 0.48)))
    return pencil.scene()


def photograph(scene: Array, random: Random) -> Image.Image:
    """The scene as a camera takes it: tilted, zoomed, exposed, a little unsharp, and noisy."""
    angle, zoom = random.normal(0, 2.0), random.uniform(1.06, 1.3)
    pixels = Image.fromarray((np.clip(scene, 0, 1) * 255).astype(np.uint8))
    width = SIZE / zoom
    left, top = random.uniform(0, SIZE - width), random.uniform(0, SIZE - width)
    pixels = pixels.rotate(angle, Image.Resampling.BILINEAR)
    pixels = pixels.resize(
        (SIZE, SIZE),
        Image.Resampling.BICUBIC,
        box=(left * 0.6 + 3, top * 0.6 + 3, left * 0.6 + width, top * 0.6 + width),
    )
    if random.random() < 0.3:
        pixels = pixels.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 1.2)))
    array = np.asarray(pixels, np.float32) / 255
    balance = (1 + random.normal(0, 0.035, 3)).astype(np.float32)
    contrast, exposure = random.uniform(0.85, 1.12), random.uniform(0.85, 1.12)
    array = ((array - 0.5) * contrast + 0.5) * exposure * balance
    array = array * (1 - random.uniform(0, 0.35) * ((X - 0.5) ** 2 + (Y - 0.5) ** 2))[..., None]
    grain = random.standard_normal((SIZE, SIZE, 1), np.float32) * np.float32(random.uniform(0.004, 0.035))
    return Image.fromarray((np.clip(array + grain, 0, 1) * 255).astype(np.uint8))


def _place(point: Point) -> Point:
    return (point[0] * SIZE * ZOOM, point[1] * SIZE * ZOOM)


def _ink(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = (max(0, min(255, int(value * 255))) for value in colour)
    return (red, green, blue)
