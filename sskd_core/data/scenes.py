"""A seeded renderer of demo scenes: textured, shaded, overlapping objects on crops of real photographs.

A class has a shape, and like things in the world it has a usual look (a range of hues, a preferred texture) that is a
hint and not a proof. Two domains share the same classes: `source`, on which the shipped weights were trained, and
`target`, which is what the demo adapts to: the colours of another camera, soft focus, haze, uneven light and noise.
Every scene is a pure function of (seed, domain, split, index).
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Domain = Literal["source", "target"]
CLASSES = ("disc", "square", "triangle", "star", "ring", "cross")
HEIGHT, WIDTH = 96, 128
_SUPERSAMPLE = 3
_MIN_VISIBLE = 40
_TARGET_HUE = 70.0
_DOMAINS: dict[Domain, int] = {"source": 0, "target": 1}


@dataclass(frozen=True)
class Scene:
    """One rendered image with its exact annotation.

    Attributes:
        image: RGB, [96, 128, 3].
        categories: class index of each object.
        masks: the visible part of each object, each [96, 128]; they do not overlap.
    """

    image: NDArray[np.uint8]
    categories: list[int]
    masks: list[NDArray[np.bool_]]


def render_scene(seed: int, domain: Domain, split: str, index: int) -> Scene:
    """Render one scene.

    Args:
        seed: of the data set.
        domain: `source` or `target`.
        split: any name; splits of one seed share no scene.
        index: number of the scene in its split.
    """
    rng = np.random.default_rng([seed, _DOMAINS[domain], *split.encode(), index])
    canvas = _background(rng)
    owner = np.full((HEIGHT, WIDTH), -1, dtype=np.int64)
    categories: list[int] = []
    for _ in range(int(rng.integers(2, 8))):
        category = int(rng.integers(len(CLASSES)))
        coverage = _coverage(rng, CLASSES[category])
        canvas = _composite(rng, canvas, coverage, category)
        owner[coverage > 0.5] = len(categories)
        categories.append(category)
    masks = [owner == number for number in range(len(categories))]
    visible = [number for number, mask in enumerate(masks) if mask.sum() >= _MIN_VISIBLE]
    if domain == "target":
        canvas = _shift(rng, canvas)
    image = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
    return Scene(image, [categories[number] for number in visible], [masks[number] for number in visible])


@cache
def _photographs() -> tuple[Image.Image, ...]:
    from sklearn.datasets import load_sample_images  # late: only the demo renders scenes

    return tuple(Image.fromarray(photo) for photo in load_sample_images().images)


def _background(rng: np.random.Generator) -> NDArray[np.float64]:
    photos = _photographs()
    photo = photos[int(rng.integers(len(photos)))]
    width = int(rng.integers(WIDTH, 420))
    height = width * HEIGHT // WIDTH
    left, top = int(rng.integers(photo.width - width + 1)), int(rng.integers(photo.height - height + 1))
    crop = photo.resize((WIDTH, HEIGHT), Image.Resampling.BOX, box=(left, top, left + width, top + height))
    if rng.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(crop, dtype=np.float64)


def _polygon(corners: int, inner: float = 1.0) -> NDArray[np.float64]:
    """Return a regular polygon, or a star when `inner` < 1, on the unit circle: [points, 2]."""
    count = corners if inner == 1.0 else 2 * corners
    angles = np.arange(count) * 2 * np.pi / count
    radii = np.where(np.arange(count) % 2 == 0, 1.0, inner)
    return np.stack([np.cos(angles) * radii, np.sin(angles) * radii], axis=1)


_CROSS = np.array(
    [
        *[(1, 0.3), (0.3, 0.3), (0.3, 1), (-0.3, 1), (-0.3, 0.3), (-1, 0.3)],
        *[(-1, -0.3), (-0.3, -0.3), (-0.3, -1), (0.3, -1), (0.3, -0.3), (1, -0.3)],
    ]
)
_OUTLINES: dict[str, Callable[[], NDArray[np.float64]]] = {
    "disc": lambda: _polygon(48),
    "ring": lambda: _polygon(48),
    "square": lambda: _polygon(4),
    "triangle": lambda: _polygon(3),
    "star": lambda: _polygon(5, inner=0.42),
    "cross": lambda: _CROSS,
}


def _coverage(rng: np.random.Generator, shape: str) -> NDArray[np.float64]:
    """Return the share of each pixel that an object at a random place covers, [96, 128] in 0..1."""
    radius = rng.uniform(10.0, 26.0)
    stretch = np.array([1.0, rng.uniform(0.75, 1.0)])
    angle = rng.uniform(0, 2 * np.pi)
    centre = np.array([rng.uniform(6, WIDTH - 6), rng.uniform(6, HEIGHT - 6)])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    outline = (_OUTLINES[shape]() * stretch * radius) @ turn.T
    layer = Image.new("L", (WIDTH * _SUPERSAMPLE, HEIGHT * _SUPERSAMPLE))
    draw = ImageDraw.Draw(layer)
    draw.polygon([tuple(point) for point in (outline + centre) * _SUPERSAMPLE], fill=255)
    if shape == "ring":
        draw.polygon([tuple(point) for point in (outline * 0.55 + centre) * _SUPERSAMPLE], fill=0)
    return np.asarray(layer.resize((WIDTH, HEIGHT), Image.Resampling.BOX), dtype=np.float64) / 255.0


def _composite(
    rng: np.random.Generator, canvas: NDArray[np.float64], coverage: NDArray[np.float64], category: int
) -> NDArray[np.float64]:
    """Paint an object with texture, shading and a soft shadow over the canvas."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    direction = rng.uniform(0, 2 * np.pi)
    along = columns * np.cos(direction) + rows * np.sin(direction)
    across = -columns * np.sin(direction) + rows * np.cos(direction)
    pattern = _pattern(rng, category, along, across)
    first, second = _colours(rng, category)
    surface = first + pattern[..., None] * (second - first)
    light = along - (along * coverage).sum() / max(coverage.sum(), 1.0)
    surface = surface * (1.0 + np.clip(light / 40.0, -0.35, 0.35))[..., None]
    shadow_layer = Image.fromarray((np.roll(coverage, (2, 2), axis=(0, 1)) * 255).astype(np.uint8))
    shadow = np.asarray(shadow_layer.filter(ImageFilter.GaussianBlur(2)), dtype=np.float64) / 255.0
    canvas = canvas * (1.0 - 0.35 * shadow)[..., None]
    painted: NDArray[np.float64] = canvas * (1.0 - coverage)[..., None] + np.clip(surface, 0, 255) * coverage[..., None]
    return painted


def _colours(rng: np.random.Generator, category: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return two shades of a hue near the class's own, each RGB in 0..255. Neighbouring classes overlap."""
    hue = (category / len(CLASSES) + rng.normal(0.0, 0.09)) % 1.0
    saturation = rng.uniform(0.45, 1.0)
    values = rng.uniform(0.35, 1.0, size=2)
    shades = [np.array(colorsys.hsv_to_rgb(hue, saturation, value)) * 255.0 for value in values]
    return shades[0], shades[1]


def _pattern(
    rng: np.random.Generator, category: int, along: NDArray[np.float64], across: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return plain, stripes, checks or grain, [96, 128] in 0..1; a class has its own kind two times in three."""
    kind = category % 4 if rng.random() < 0.67 else int(rng.integers(4))
    waves = 2 * np.pi / rng.uniform(5, 14)
    if kind == 0:
        return np.zeros((HEIGHT, WIDTH))
    if kind == 1:
        return (np.sin(waves * along) > 0).astype(np.float64)
    if kind == 2:
        return (np.sin(waves * along) * np.sin(waves * across) > 0).astype(np.float64)
    return rng.random((HEIGHT, WIDTH))


def _shift(rng: np.random.Generator, canvas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move an image to the target domain: another camera's colours, soft focus, haze, uneven light, noise."""
    soft = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.5))
    values = np.asarray(soft, dtype=np.float64) @ _hue_rotation(_TARGET_HUE).T
    values = (values - 128.0) * rng.uniform(0.6, 0.8) + 128.0 + rng.uniform(0, 25)
    falloff = np.linspace(rng.uniform(0.7, 0.9), rng.uniform(1.0, 1.15), WIDTH)
    noise = rng.normal(0.0, rng.uniform(5.0, 9.0), size=values.shape)
    shifted: NDArray[np.float64] = values * falloff[None, :, None] + noise
    return shifted


def _hue_rotation(degrees: float) -> NDArray[np.float64]:
    """Return the RGB matrix that turns colours about the grey axis (Rodrigues' formula)."""
    angle = np.deg2rad(degrees)
    axis = np.full(3, 1 / np.sqrt(3))
    cross = np.cross(np.eye(3), axis)
    along: NDArray[np.float64] = (1 - np.cos(angle)) * np.outer(axis, axis)
    along += np.cos(angle) * np.eye(3) + np.sin(angle) * cross
    return along
