"""The canvas of the synthetic scenes: materials, light, noise, buffers, sky, ground, walls.

Lengths are metres: x right, y up, z away from the camera. Colours are linear RGB.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates

SCALE = 2  # supersampling in each direction
FAR = 400.0  # metres; depth of the sky


class Material(NamedTuple):
    """Reflectance (linear RGB, 0–1), kelvin above the air, thermal emissivity (0–1)."""

    albedo: tuple[float, float, float]
    warmth: float
    emissivity: float


MATERIALS = {
    "asphalt": Material((0.105, 0.107, 0.115), 3.0, 0.95),
    "paving": Material((0.38, 0.35, 0.31), 2.0, 0.93),
    "kerb": Material((0.46, 0.45, 0.42), 0.5, 0.90),
    "grass": Material((0.13, 0.20, 0.05), -2.0, 0.97),
    "earth": Material((0.19, 0.14, 0.09), 0.5, 0.95),
    "marking": Material((0.75, 0.74, 0.68), 1.0, 0.88),
    "glass": Material((0.07, 0.09, 0.11), 1.0, 0.80),
    "leaf": Material((0.085, 0.15, 0.035), -1.0, 0.97),
    "needle": Material((0.055, 0.10, 0.045), -1.0, 0.97),
    "bark": Material((0.10, 0.08, 0.065), 0.0, 0.95),
    "metal": Material((0.22, 0.23, 0.24), -1.0, 0.85),
    "canvas": Material((0.42, 0.20, 0.08), 0.0, 0.90),
}


BRICKS = ((0.36, 0.17, 0.11), (0.46, 0.38, 0.28), (0.40, 0.40, 0.38), (0.48, 0.30, 0.20),
          (0.30, 0.25, 0.22))  # fmt: skip
COATS = ((0.40, 0.05, 0.05), (0.05, 0.10, 0.28), (0.45, 0.38, 0.26), (0.05, 0.05, 0.06),
         (0.10, 0.22, 0.12))  # fmt: skip
PAINTS = ((0.24, 0.015, 0.02), (0.05, 0.10, 0.26), (0.50, 0.51, 0.52), (0.04, 0.04, 0.05),
          (0.55, 0.53, 0.46))  # fmt: skip


class Mood(NamedTuple):
    """Weather and camera: colours are linear RGB, temperatures degrees Celsius."""

    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]
    ambient: tuple[float, float, float]
    sun: tuple[float, float, float]
    towards_sun: tuple[float, float, float]
    haze: float  # 1 / metre
    clouds: float  # 0 clear – 1 overcast
    exposure: float
    noise: float  # grey levels of visible sensor noise
    air: float
    thermal: tuple[float, float]  # temperatures shown black and white
    lit: float  # share of lit windows


DAY = Mood((0.16, 0.34, 0.72), (0.62, 0.74, 0.88), (0.50, 0.56, 0.66), (1.75, 1.55, 1.25),
           (-0.62, 0.66, -0.42), 0.003, 0.55, 1.35, 1.2, 17.0, (8.0, 37.0), 0.0)  # fmt: skip
NIGHT = Mood((0.004, 0.006, 0.016), (0.030, 0.027, 0.034), (0.011, 0.014, 0.026), (0.0, 0.0, 0.0),
             (0.0, 1.0, 0.0), 0.004, 0.3, 3.0, 3.0, 8.0, (0.0, 30.0), 0.35)  # fmt: skip
DUSK = Mood((0.06, 0.09, 0.22), (0.72, 0.36, 0.17), (0.075, 0.085, 0.125), (0.0, 0.0, 0.0),
            (0.0, 1.0, 0.0), 0.004, 0.6, 2.0, 3.0, 11.0, (1.0, 34.0), 0.25)  # fmt: skip
OVERCAST = Mood((0.42, 0.45, 0.50), (0.62, 0.63, 0.64), (0.62, 0.64, 0.67), (0.0, 0.0, 0.0),
                (0.0, 1.0, 0.0), 0.006, 0.9, 1.2, 1.8, 12.0, (1.0, 35.0), 0.1)  # fmt: skip
HARSH = DAY._replace(zenith=(0.5, 0.62, 0.85), horizon=(1.5, 1.35, 1.1), exposure=4.6,
                     towards_sun=(0.14, 0.30, 0.94), sun=(2.6, 2.2, 1.6), haze=0.006)  # fmt: skip


class Plan(NamedTuple):
    """One picture: what stands where, size, seed, light, how far things stray, the camera."""

    layout: str
    size: tuple[int, int]
    seed: int
    mood: Mood
    stray: float = 0.0  # metres by which people and cars are moved at random
    eye: float = 1.7  # metres above the ground
    horizon: float = 0.46  # vanishing point, as shares of height and width
    centre: float = 0.5


class Lamp(NamedTuple):
    """A light: position, direction with exponent (0 shines everywhere), colour times power."""

    position: tuple[float, float, float]
    direction: tuple[float, float, float]
    exponent: float
    colour: np.ndarray
    halo: float  # radius of the glow in the lens, as a share of the image width; 0 for none


# --- noise -----------------------------------------------------------------------------------


def resize_plane(plane: np.ndarray, width: int, height: int) -> np.ndarray:
    """One plane, float32: bicubic when growing, without overshoot when shrinking."""
    image = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    way = Image.Resampling.HAMMING if width < image.width else Image.Resampling.BICUBIC
    return np.asarray(image.resize((width, height), way))


def fractal_noise(rng: np.random.Generator, height: int, width: int, cell: float, octaves: int = 5):
    """Multi-octave noise, shape ``(height, width)``, mean 0 and deviation about 1."""
    total, amplitude = np.zeros((height, width), np.float32), 1.0
    for _ in range(octaves):
        grid = rng.standard_normal((int(height / cell) + 3, int(width / cell) + 3))
        total += amplitude * resize_plane(grid, width, height)
        cell, amplitude = max(cell / 2, 1.0), amplitude * 0.55
    return total / 0.95


def smooth_step(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """Smooth step from 0 at `low` to 1 at `high`."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


# --- the scene -------------------------------------------------------------------------------


class Scene:
    """Buffers of one scene at `SCALE` times the final size, and the camera that fills them."""

    def __init__(self, plan: Plan):
        self.rng, self.mood, self.eye = np.random.default_rng(plan.seed), plan.mood, plan.eye
        self.size, (self.w, self.h) = plan.size, (plan.size[0] * SCALE, plan.size[1] * SCALE)
        self.f, self.horizon = float(self.w), plan.horizon * self.h
        self.centre = plan.centre * self.w
        self.col = np.arange(self.w, dtype=np.float32) + 0.5 - self.centre  # from the centre
        self.row = np.arange(self.h, dtype=np.float32) + 0.5 - self.horizon  # from the horizon
        shape = (self.h, self.w)
        self.albedo, self.emit = np.zeros((2, *shape, 3), np.float32)
        self.temp, self.sun, self.up = np.zeros((3, *shape), np.float32)
        self.depth = np.full(shape, FAR, np.float32)
        self.smoke, self.lights = None, []
        self.texture = fractal_noise(self.rng, 512, 512, 64, 6)

    def project(self, x, y, z) -> np.ndarray:
        """Points in metres to pixels, shape ``(n, 2)``."""
        x, y, z = np.broadcast_arrays(*(np.asarray(v, float) for v in (x, y, z)))
        z = np.maximum(z, 0.3)
        return np.stack([self.centre + self.f * x / z,
                         self.horizon + self.f * (self.eye - y) / z], -1)  # fmt: skip

    def box(self, points: np.ndarray, margin: int = 2) -> tuple[slice, slice]:
        """The part of the buffers that holds all `points`."""
        (x0, y0), (x1, y1) = points.min(0) - margin, points.max(0) + margin
        y0, y1, x0, x1 = np.clip((y0, y1, x0, x1), 0, (self.h, self.h, self.w, self.w)).astype(int)
        return slice(y0, y1), slice(x0, x1)

    def grain(self, u, v) -> np.ndarray:
        """Noise of deviation 1 at texture coordinates `u`, `v` that broadcast."""
        v, u = np.broadcast_arrays(v, u)
        return map_coordinates(self.texture, (v, u), order=1, mode="mirror")

    def heat(self, material: str, extra=0.0):
        """Apparent temperature: own radiation by emissivity, the rest is reflected cold sky."""
        _, warmth, emissivity = MATERIALS[material]
        return emissivity * (self.mood.air + warmth + extra) + (1 - emissivity) * -10.0

    def paint(self, box, alpha, albedo, temp, depth, emit=0.0, sun=0.6):
        """Blend an object over what lies behind it; its shadow falls on the ground first."""
        if np.ndim(depth) == 0 and self.mood.sun[0]:
            self._cast_shadow(box, alpha, depth)
        for buffer, value in (
            (self.temp, temp),
            (self.depth, depth),
            (self.sun, sun),
            (self.up, 0),
        ):
            buffer[box] += alpha * (value - buffer[box])
        for buffer, value in ((self.albedo, albedo), (self.emit, emit)):
            buffer[box] += alpha[..., None] * (value - buffer[box])

    def _cast_shadow(self, box, alpha, depth):
        """Darken the ground where an upright silhouette at `depth` hides the sun."""
        lx, ly, lz = self.mood.towards_sun
        top = self.eye - self.row[box[0]][:1] * depth / self.f
        reach = sorted((depth, depth - float(top[0]) * lz / ly)) if top.size else (1, 1)
        near, far = max(reach[0], 0.5), min(reach[1], FAR)
        rows = slice(*(int(np.clip(self.horizon + self.f * self.eye / z, 0, self.h))
                       for z in (far, near)))  # fmt: skip
        if rows.start >= rows.stop or not alpha.size:
            return
        z = self.f * self.eye / np.maximum(self.row[rows, None], 0.1)
        t = (depth - z) / lz  # ray from the ground to the object's plane
        x = self.centre + self.f * (self.col * z / self.f + lx * t) / depth - box[1].start
        y = self.horizon + self.f * (self.eye - ly * t) / depth - box[0].start
        inside = (x >= 0) & (x < alpha.shape[1]) & (y >= 0) & (y < alpha.shape[0]) & (t > 0)
        x, y = (np.where(inside, v, 0).astype(int) for v in (x, y))
        shade = alpha[y, x] * inside
        self.sun[rows] *= 1 - 0.95 * gaussian_filter(shade, 1.5) * (self.up[rows] > 0.5)

    def shade_ground(self, x, z, rx, rz, dark=0.6, warm=0.0):
        """Contact shadow on the ground around (x, z); `warm` kelvin reach the infrared image."""
        angle = np.linspace(0, 2 * np.pi, 24)
        points = self.project(x + 1.5 * rx * np.cos(angle), 0, z + 1.5 * rz * np.sin(angle))
        box = self.box(points)
        depth = self.f * self.eye / np.maximum(self.row[box[0], None], 0.1)
        r2 = ((self.col[box[1]] * depth / self.f - x) / rx) ** 2 + ((depth - z) / rz) ** 2
        shade = np.exp(-1.5 * r2) * self.up[box]
        self.albedo[box] *= 1 - dark * shade[..., None]
        self.sun[box] *= 1 - dark * shade
        self.temp[box] += warm * shade

    def paint_ids(self, box, ids, table, depth):
        """Paint an index picture; id i + 1 is row i, (r, g, b, temp, glow r, g, b)."""
        looks = np.vstack([np.zeros((1, 7)), np.asarray(table, float)]).astype(np.float32)[ids]
        v, u = np.ogrid[: ids.shape[0], : ids.shape[1]]
        noise = 1 + 0.05 * self.grain(u, v)
        alpha = (ids > 0).astype(np.float32)
        self.paint(box, alpha, looks[..., :3] * noise[..., None], looks[..., 3], depth,
                   emit=looks[..., 4:7])  # fmt: skip


# --- backdrop --------------------------------------------------------------------------------


def draw_sky(scene: Scene) -> None:
    """Gradient, clouds on a plane high above, cold zenith in the infrared."""
    mood, rows = scene.mood, slice(0, int(scene.horizon) + 2)
    height = np.clip(-scene.row[rows, None] / scene.f, 0.004, None)  # tangent of the elevation
    blend = np.exp(-height * 5.0)[..., None]
    sky = np.asarray(mood.zenith) * (1 - blend) + np.asarray(mood.horizon) * blend
    u, v = scene.col / scene.f / (height + 0.12) * 60 + 150, 40 / (height + 0.12)
    cloud = scene.grain(u, v * 1.4) + 0.5 * scene.grain(u * 3 + 70, v * 4)
    cover = smooth_step(0.9 - 1.6 * mood.clouds, 2.2 - 1.2 * mood.clouds, cloud)[..., None]
    cover = cover * (1 - 0.6 * np.exp(-height * 30))[..., None]
    bright = np.asarray(mood.horizon) * (1.25 - 0.35 * cover) + np.asarray(mood.sun) * 0.12
    scene.emit[rows] = sky + 0.85 * cover * (bright - sky)
    scene.temp[rows] = mood.air - 14 - 22 * (1 - blend[..., 0]) + 9 * cover[..., 0]


def draw_hills(scene: Scene) -> None:
    """Two wooded ridges on the horizon."""
    for depth, height in ((250.0, 0.055), (140.0, 0.03)):
        ridge = fractal_noise(scene.rng, 1, scene.w, scene.w / 4, 7)[0] * 0.35 + 1
        box = (slice(0, min(int(scene.horizon) + 3, scene.h)), slice(0, scene.w))
        row = scene.row[box[0], None]
        alpha = np.clip(row + ridge * height * scene.f + 0.5, 0, 1)
        tone = 1 + 0.2 * scene.grain(scene.col * 0.4, row * 0.8)
        leaf, far = np.asarray(MATERIALS["leaf"].albedo), np.full((1, 1), depth)
        scene.paint(box, alpha, leaf * tone[..., None], scene.heat("leaf") - 1, far)


def draw_ground(scene: Scene, edges: Sequence[float], materials: Sequence[str], wobble=0.0) -> None:
    """Strips along the view: `materials[i]` lies between `edges[i - 1]` and `edges[i]` metres."""
    rows = slice(max(int(scene.horizon) + 1, 0), scene.h)
    z = scene.f * scene.eye / np.maximum(scene.row[rows, None], 0.5)
    x = scene.col * z / scene.f
    coarse = scene.grain(x * 8, z * 8 + 40)
    patches = scene.grain(x * 1.3 + 99, z * 0.7)
    fine = scene.grain(x * 60, z * 45) * np.exp(-z / 14)
    fine += scene.grain(x * 230, z * 170) * np.exp(-z / 7)
    zone = np.digitize(x + wobble * patches, edges)
    looks = np.array([MATERIALS[m].albedo for m in materials], np.float32)
    rough = np.array([2.2 if m in ("grass", "earth") else 1.0 for m in materials])[zone]
    tone = 1 + rough * (0.05 * coarse + 0.06 * patches + 0.11 * fine)
    slab = np.exp(-z / 12) * np.array([m == "paving" for m in materials])[zone]
    joint = np.minimum(np.abs((x / 0.6) % 1 - 0.5), np.abs((z / 0.6) % 1 - 0.5))
    tone *= 1 - 0.35 * slab * (1 - smooth_step(0.01, 0.05, joint))
    scene.albedo[rows] = looks[zone] * np.clip(tone, 0.25, 2)[..., None]
    heat = np.array([scene.heat(m) for m in materials])[zone]
    scene.temp[rows] = heat + rough * (0.4 * patches + 0.35 * coarse) - 1.0 * (z > 60)
    scene.depth[rows], scene.up[rows], scene.emit[rows] = np.minimum(z, FAR * 0.9), 1, 0
    scene.sun[rows] = scene.mood.towards_sun[1]


def draw_markings(scene: Scene, lines: Sequence[tuple[float, float]], zebra=()) -> None:
    """Lines ``(x, dash)`` along the road (dash 0 is unbroken) and zebra ``(z, x0, x1)`` strips."""
    rows = slice(max(int(scene.horizon) + 1, 0), scene.h)
    z = scene.f * scene.eye / np.maximum(scene.row[rows, None], 0.5)
    x, pixel = scene.col * z / scene.f, z / scene.f
    alpha = np.zeros(x.shape, np.float32)
    for at, dash in lines:
        line = np.clip((0.075 - np.abs(x - at)) / pixel + 0.5, 0, 1)
        alpha = np.maximum(alpha, line if dash == 0 else line * (z % dash < dash * 0.45))
    for at, x0, x1 in zebra:
        bar = np.clip((0.25 - np.abs((x - x0) % 1.0 - 0.5)) / pixel + 0.5, 0, 1)
        alpha = np.where((np.abs(z - at) < 1.7), bar * (x > x0) * (x < x1), alpha)
    worn = np.clip(0.85 + 0.22 * scene.grain(x * 14, z * 9), 0.2, 1)
    alpha *= worn * np.exp(-z / 80)
    white = np.asarray(MATERIALS["marking"].albedo)
    scene.albedo[rows] += alpha[..., None] * (white - scene.albedo[rows])
    scene.temp[rows] += alpha * (scene.heat("marking") - scene.heat("asphalt"))


def _wall_look(scene: Scene, u, y, height, colour):
    """Bays and storeys at metres `u` along and `y` up a wall: reflectance, glow, temperature."""
    bay, across = np.divmod(u / 2.9, 1.0)
    storey, up = np.divmod((y - 0.5) / 3.2, 1.0)
    cell = (storey.astype(int) % 16, bay.astype(int) % 64)
    hue = scene.rng.random((16, 64))
    lit = (scene.rng.random((16, 64)) < scene.mood.lit)[cell]
    shop, dx, dy = storey == 0, np.abs(across - 0.5), np.abs(up - np.where(storey == 0, 0.40, 0.52))
    inside = (dx < np.where(shop, 0.40, 0.21)) & (dy < np.where(shop, 0.33, 0.27))
    inside &= (y > 0.5) & (y < height - 0.9)
    frame = inside & ((dx > np.where(shop, 0.375, 0.18)) | (dy > 0.245) & ~shop | (dx < 0.012))
    ledge = (np.abs(up - 0.97) < 0.04) & shop | (y > height - 0.45)
    ledge |= (dx < 0.25) & (np.abs(up - 0.225) < 0.03) & ~shop & (y > 1) & (y < height - 1)
    awning = shop & (dx < 0.45) & (up > 0.74) & (up < 0.92)
    tone = 1 + 0.07 * scene.grain(u * 25, y * 60) + 0.08 * scene.grain(u * 5, y * 3 + 200)
    tone *= (0.78 + 0.22 * smooth_step(0, 2.5, y)) * (1 - 0.3 * (np.abs(height - 0.6 - y) < 0.15))
    wall = np.asarray(colour) * tone[..., None]
    wall = np.where(ledge[..., None], wall * 0.5 + 0.28 * tone[..., None], wall)
    wall = np.where(frame[..., None], np.where(shop, 0.12, 0.55)[..., None], wall)
    stripe = np.where(((across * 9) % 1 < 0.5)[..., None], colour[::-1], (0.6, 0.58, 0.5))
    wall = np.where(awning[..., None], stripe * (1.4 - 0.6 * up)[..., None], wall)
    pane = (inside & ~frame)[..., None]
    wall = np.where(pane, MATERIALS["glass"].albedo, wall)
    curtain = np.stack([np.ones_like(hue), 0.62 + 0.2 * hue, 0.25 + 0.4 * hue], -1)[cell]
    glow = curtain * (lit * (0.10 + 0.30 * hue[cell]) * (1.1 - 0.8 * up))[..., None]
    glow += np.asarray(scene.mood.ambient) * (0.10 + 0.22 * np.clip(up, 0, 1))[..., None]
    warmth = np.where(inside, 2.0 + 5 * lit + 2.0 * hue[cell], 0.6 + 1.2 * ledge - 0.8 * awning)
    temp = scene.mood.air + warmth + 1.5 * (tone - 1) - 0.8 * frame + 0.06 * np.clip(y, 0, 12)
    return wall, pane * glow, temp


def draw_wall(scene: Scene, height, colour, side=None, span=(4.0, 14.0), at=20.0) -> None:
    """A facade: along the street at x = `side` over depths `span`, or across it at depth `at`."""
    x, z = (side, span) if side is not None else (np.asarray(span), at)
    box = scene.box(np.vstack([scene.project(x, y, z) for y in (0, height)]), 0)
    col = scene.col[box[1]]
    if not col.size:
        return
    z = scene.f * side / col if side is not None else np.full(col.shape, at, np.float32)
    u = (z if side is not None else col * at / scene.f) - span[0]
    y = scene.eye - scene.row[box[0], None] * z / scene.f
    lx, ly, lz = scene.mood.towards_sun
    facing = -np.sign(side) * lx if side is not None else 0.3
    albedo, glow, temp = _wall_look(scene, u, y, height, colour)
    alpha = ((y > 0) & (y < height)).astype(np.float32)
    scene.paint(box, alpha, albedo, temp, np.broadcast_to(z, y.shape), glow, max(facing, 0))
    if side is not None and scene.mood.sun[0] and facing < 0:  # its shadow on the street
        rows = slice(int(scene.horizon) + 1, scene.h)
        depth = scene.f * scene.eye / scene.row[rows, None]
        t = (side - scene.col * depth / scene.f) / lx
        hit = (t > 0) & (t * ly < height) & (depth + lz * t > span[0]) & (depth + lz * t < span[1])
        scene.sun[rows] *= 1 - 0.95 * (hit & (scene.up[rows] > 0.5))
