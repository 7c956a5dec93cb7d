"""Draws the synthetic scenes: registered infrared and visible pictures, made without a camera.

    python data/synthetic/draw.py [folder]

A scene is built once, back to front, into buffers of twice the final size: reflectance, emitted
light, apparent temperature, depth, sunlight. `render_visible` lights these buffers as a colour
camera would see them, `render_infrared` reads the same buffers as a thermal camera would; so both
pictures share one geometry to the pixel. Lengths are metres: x right, y up, z away from the camera.
"""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image
from props import (
    draw_car,
    draw_fire,
    draw_person,
    draw_plant,
    draw_sign,
    draw_smoke,
    draw_street_lamp,
    draw_tent,
)
from scenery import (
    BRICKS,
    DAY,
    DUSK,
    FAR,
    HARSH,
    NIGHT,
    OVERCAST,
    SCALE,
    Lamp,
    Plan,
    Scene,
    draw_ground,
    draw_hills,
    draw_markings,
    draw_sky,
    draw_wall,
    fractal_noise,
    resize_plane,
    smooth_step,
)
from scipy.ndimage import gaussian_filter, gaussian_filter1d

# --- the two cameras -------------------------------------------------------------------------


def _lit_by(scene: Scene, lamp: Lamp, x, y) -> np.ndarray:
    """Light of one lamp on every pixel, by distance, beam and facing: shape ``(H, W, 3)``."""
    px, py, pz = lamp.position
    dx, dy, dz = x - np.float32(px), y - np.float32(py), scene.depth - np.float32(pz)
    distance = np.sqrt(dx * dx + dy * dy + dz * dz) + np.float32(0.3)
    facing = scene.up * np.clip(-dy / distance, 0, 1)
    facing += (1 - scene.up) * (0.35 + 0.4 * np.clip(dz / distance, 0, 1))
    power = facing / (distance * distance)
    if lamp.exponent:
        beam = sum(np.float32(a) * b for a, b in zip(lamp.direction, (dx, dy, dz), strict=True))
        power *= np.clip(beam / distance, 1e-6, 1) ** np.float32(lamp.exponent)
    return power[..., None] * lamp.colour.astype(np.float32)


def render_visible(scene: Scene) -> np.ndarray:
    """Reflectance times illumination, smoke, glow, tone curve, sensor noise: (H, W, 3), uint8."""
    mood, z = scene.mood, scene.depth
    ambient, sun, horizon = np.array([mood.ambient, mood.sun, mood.horizon], np.float32)
    x, y = scene.col * z / scene.f, scene.eye - scene.row[:, None] * z / scene.f
    light = ambient + scene.sun[..., None] * sun
    for lamp in scene.lights:
        light += _lit_by(scene, lamp, x, y)
    image = scene.albedo * light + scene.emit
    veil = (1 - np.exp(-mood.haze * z)) * (z < FAR * 0.95)
    image += veil[..., None] * (0.45 * horizon + 0.5 * ambient - image)
    if scene.smoke is not None:
        near, alpha, tone = scene.smoke
        grey = tone[..., None] * (ambient * 1.05 + sun * 0.25)
        image += (alpha * smooth_step(near - 0.5, near + 2.0, z))[..., None] * (grey - image)
    planes = [resize_plane(np.clip(c, 0, 12), *scene.size) for c in np.moveaxis(image, -1, 0)]
    image = np.stack(planes, -1)
    image = np.clip(image + _glow(scene, image), 0, None)
    r2 = np.linspace(-1, 1, scene.size[0]) ** 2 + np.linspace(-1, 1, scene.size[1])[:, None] ** 2
    image = 1 - np.exp(-mood.exposure * image * (1 - 0.11 * r2[..., None]))
    image = image ** (1 / 2.2)
    image = image + 0.35 * image * (1 - image) * (2 * image - 1)  # contrast
    grey = image.mean(-1, keepdims=True)
    image = 255 * (grey + 1.15 * (image - grey))  # colour
    grain = gaussian_filter(scene.rng.standard_normal(image.shape), (0.45, 0.45, 0))
    image += mood.noise * 1.6 * grain * (1.15 - image / 340)
    return np.rint(np.clip(image, 0, 255)).astype(np.uint8)


def _glow(scene: Scene, image: np.ndarray) -> np.ndarray:
    """Bloom of everything overexposed, and halos with rays around lamps."""
    hot = np.clip(image * scene.mood.exposure - 1.6, 0, 6) / scene.mood.exposure
    glow = sum(a * gaussian_filter(hot, (s, s, 0)) for s, a in ((1.5, 0.15), (6, 0.10), (20, 0.07)))
    width, height = scene.size
    for lamp in scene.lights:
        px, py = scene.project(*lamp.position)
        at = tuple(np.clip((py, px), 0, (scene.h - 1, scene.w - 1)).astype(int))
        if lamp.halo and scene.depth[at] > lamp.position[2] - 1.5:  # not behind something
            px, py = px / SCALE, py / SCALE
            dx, dy = np.arange(width) + 0.5 - px, np.arange(height)[:, None] + 0.5 - py
            r, angle = np.hypot(dx, dy) / (lamp.halo * width), np.arctan2(dy, dx)
            rays = 0.6 + 0.8 * np.abs(np.cos(3 * angle + 0.4)) ** 16 * np.exp(-r / 2)
            fall = 0.4 * rays / (1 + (2.2 * r) ** 2) ** 1.4
            glow = glow + fall[..., None] * lamp.colour / lamp.colour.max()
    return glow


def render_infrared(scene: Scene) -> np.ndarray:
    """Apparent temperature, thermal blur, fixed-pattern columns: (H, W), uint8, white is hot."""
    mood, rng = scene.mood, scene.rng
    temp = scene.temp + 3.0 * scene.sun * min(mood.sun[0], 1) * (scene.depth < FAR * 0.95)
    if scene.smoke is not None:
        near, alpha, tone = scene.smoke
        alpha = 0.22 * alpha * smooth_step(near - 0.5, near + 2.0, scene.depth)
        temp += alpha * (mood.air + 2 * tone - temp)
    temp = resize_plane(gaussian_filter(temp, 0.9 * SCALE), *scene.size)
    low, high = mood.thermal
    level = (temp - low) / (high - low)
    level = np.where(level > 0.85, 0.85 + 0.15 * np.tanh((level - 0.85) / 0.15), level)
    columns = gaussian_filter1d(rng.standard_normal(scene.size[0]), 0.5) * 1.6
    slow = fractal_noise(rng, scene.size[1], scene.size[0], scene.size[0] / 3, 2) * 1.5
    image = 255 * np.clip(level, 0.02, 1) + columns + slow + 1.3 * rng.standard_normal(level.shape)
    return np.rint(np.clip(image, 0, 255)).astype(np.uint8)


# --- scenes ----------------------------------------------------------------------------------


def _town(scene, zebra=(), lamps=()) -> list:
    """Houses on both sides, pavements, a road with markings."""
    draw_ground(scene, (-6.2, -3.7, -3.5, 3.5, 3.7, 6.2),
                ("earth", "paving", "kerb", "asphalt", "kerb", "paving", "earth"))  # fmt: skip
    draw_markings(scene, ((0.0, 6.0), (-3.2, 0), (3.2, 0)), zebra)
    draw_wall(scene, 13, BRICKS[0], span=(-14, 14), at=95)
    for start, end in pairwise((82, 70, 58, 47, 36, 26, 17, 8, 1)):
        for side in (-6.2, 6.2):
            height, colour = scene.rng.uniform(8.5, 14.5), BRICKS[scene.rng.integers(len(BRICKS))]
            draw_wall(scene, height, colour, side, (end, start))
    trees = [(draw_plant, s, z + scene.rng.uniform(-4, 4), {"height": scene.rng.uniform(4.5, 6.5)})
             for z in (46, 33, 22) for s in (-5.0, 5.0)]  # fmt: skip
    on = scene.mood.lit > 0.2
    return trees + [(draw_street_lamp, x, z, {"on": on}) for x, z in lamps]


def _country(scene) -> list:
    """A road between meadows, bushes and trees."""
    draw_hills(scene)
    draw_ground(scene, (-3.4, 3.4), ("grass", "asphalt", "grass"), wobble=0.12)
    draw_markings(scene, ((0.0, 6.0), (-3.1, 0), (3.1, 0)))
    rng, plants = scene.rng, []
    for z in (90, 75, 62, 50, 40, 31, 24, 18):
        for side in (-1, 1):
            kind = ("tree", "tree", "fir")[rng.integers(3)]
            x = side * (5.5 + rng.uniform(0, 0.16) * z)
            plants.append((draw_plant, x, z, {"height": rng.uniform(5, 8), "kind": kind}))
            x = side * rng.uniform(4.2, 5.5 + 0.1 * z)
            plants.append(_bush(x, z - 4, rng.uniform(0.8, 1.5)))
    return plants


def _forest(scene) -> list:
    """Firs around a clearing."""
    draw_hills(scene)
    draw_ground(scene, (-1.0, 1.2), ("grass", "earth", "grass"), wobble=0.5)
    rng, plants = scene.rng, []
    for z in (70, 60, 50, 42, 35, 29, 24):
        for x in np.arange(-0.55, 0.56, 0.13 if z > 30 else 0.22):
            x = (x + rng.uniform(-0.05, 0.05)) * z
            plants.append((draw_plant, x, z + rng.uniform(-2, 2),
                           {"height": rng.uniform(7, 12), "kind": "fir"}))  # fmt: skip
    for z in (15, 11):
        for side in (-1, 1):
            x = side * z * rng.uniform(0.30, 0.46)
            plants.append((draw_plant, x, z, {"height": rng.uniform(5, 7.5), "kind": "fir"}))
    for _ in range(14):
        z = rng.uniform(4, 16)
        x = rng.choice([-1, 1]) * rng.uniform(0.2, 0.5) * z
        plants.append(_bush(x, z, rng.uniform(0.2, 0.45)))
    return plants


def _walker(x, z, facing=1, phase=1.3, pose="walk", **more):
    return (draw_person, x, z, {"facing": facing, "phase": phase, "pose": pose, **more})


def _bush(x, z, height):
    return (draw_plant, x, z, {"height": height, "kind": "bush"})


def _car(x, z, yaw=0.0, **more):
    return (draw_car, x, z, {"yaw": yaw * np.pi, **more})


_DARK = {"clothes": ((0.16, 0.10, 0.08), (0.035, 0.04, 0.04), (0.03, 0.03, 0.035))}
_CAMOUFLAGE = {"clothes": ((0.08, 0.08, 0.05), (0.06, 0.075, 0.04), (0.06, 0.07, 0.04))}
# backdrop, its options, and what stands in it: (drawer, x, z, options)
_LAYOUTS = {
    "day_street": (_town, {}, [
        _car(1.7, 34), _car(-1.8, 21, 1), _walker(-5.0, 16, pose="front"),
        _walker(-4.5, 15.2, pose="front"), _car(2.6, 12.5, running=False),
        (draw_plant, 5.4, 12.5, {"height": 5.4}), _walker(3.9, 8.6, -1, 1.4),
        _walker(-1.3, 8.4, 1, 1.9), _walker(-4.3, 7.4, pose="front"), (draw_sign, -4.0, 11.5, {})]),
    "night_street": (_town, {"lamps": [(-4, 40), (4, 28), (-4, 19), (4, 12)]}, [
        _car(1.8, 26, lights=0.6), _car(-1.9, 30, 1, lights=0.6), _car(2.7, 12, running=False),
        _walker(-4.6, 13, pose="front"), _walker(0.5, 9.5, 1, 1.7), _walker(4.4, 8.8, -1, 1.2)]),
    "smoke": (_country, {}, [
        _car(1.8, 17, 0.88), (draw_sign, -4.0, 15, {}), (draw_smoke, -0.5, 6.2, {}),
        _walker(-1.5, 9.5, 1, 1.6), _walker(0.5, 8.5, pose="front"), _walker(-2.5, 8.0, -1, 1.2),
        _walker(2.1, 5.6, -1, 1.4)]),
    "glare": (_country, {}, [
        _car(-1.7, 13, 1, lights=1.0), _car(-1.7, 36, 1, lights=0.5),
        _walker(0.6, 10.5, -1, 1.5, **_DARK), _walker(3.0, 9.0, pose="front", **_DARK)]),
    "over_exposure": (_town, {}, [
        _car(-1.8, 26, 1), _walker(1.0, 11, 1, 1.6), _walker(-4.4, 10, pose="front"),
        _car(2.6, 14, running=False), _walker(-1.5, 8.0, -1, 1.2),
        (draw_sign, -4.0, 13, {})]),
    "hidden": (_forest, {}, [
        (draw_plant, -2.2, 10.0, {"height": 6.5, "kind": "fir"}), _bush(-0.9, 9.0, 2.2),
        _walker(-1.25, 7.6, pose="front", **_CAMOUFLAGE), _bush(-1.6, 7.0, 1.0),
        _bush(2.3, 6.5, 1.5)]),
    "crossing": (_town, {"zebra": [(12.5, -3.2, 3.2)], "lamps": [(-4, 34), (4, 22), (-4, 14.6)]}, [
        _car(1.8, 19, 1, lights=0.5), _car(-1.9, 24), _walker(-2.4, 12.6, 1, 1.5),
        _walker(-0.9, 12.2, 1, 1.1), _walker(1.5, 13.0, -1, 1.7),
        _walker(4.8, 11.5, -1, 1.2), _walker(-4.7, 10, pose="front")]),
    "camp": (_forest, {}, [
        (draw_tent, 1.6, 9.5, {}), _walker(-1.9, 8.3, 1, pose="front"),
        _walker(-1.0, 7.2, 1, 0.2, "sit"), (draw_fire, 0.15, 7.0, {}),
        _walker(1.25, 7.1, -1, 0.2, "sit")]),
}  # fmt: skip

# test scenes by what they show, training scenes by number
PLANS = {
    "day_street": Plan("day_street", (640, 480), 11, DAY, centre=0.47),
    "night_street": Plan("night_street", (512, 384), 12, NIGHT, eye=2.2, horizon=0.42, centre=0.36),
    "smoke_road": Plan("smoke", (480, 360), 13, OVERCAST, centre=0.52),
    "headlight_glare": Plan("glare", (501, 333), 14, NIGHT, centre=0.56, horizon=0.42),
    "over_exposure": Plan("over_exposure", (400, 300), 15, HARSH, centre=0.62),
    "hidden_person": Plan("hidden", (320, 256), 16, DUSK),
    "night_crossing": Plan("crossing", (560, 420), 17, NIGHT, eye=4.2, horizon=0.2, centre=0.54),
    "dusk_camp": Plan("camp", (256, 256), 18, DUSK, horizon=0.52),
    "train_01": Plan("day_street", (400, 320), 21, DAY, 0.6, 2.2, 0.42, 0.58),
    "train_02": Plan("night_street", (384, 288), 22, NIGHT, 0.6, 2.4, 0.40, 0.62),
    "train_03": Plan("smoke", (352, 288), 23, DAY, 0.6, 2.0, 0.44),
    "train_04": Plan("glare", (360, 270), 24, NIGHT, 0.6, 2.0, 0.42),
    "train_05": Plan("over_exposure", (320, 256), 25, HARSH, 0.6, 2.0, 0.44),
    "train_06": Plan("hidden", (288, 256), 26, OVERCAST, 0.5, 1.9, 0.44),
    "train_07": Plan("crossing", (400, 300), 27, DUSK, 0.6, 3.4, 0.26),
    "train_08": Plan("camp", (320, 288), 28, DUSK, 0.4, 1.9, 0.44),
}


def render(plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """Draw one scene; the same plan always gives the same bytes.

    Returns:
        Infrared, (H, W), and visible sRGB, (H, W, 3), uint8, registered; white is hot.
    """
    scene = Scene(plan)
    draw_sky(scene)
    if plan.mood.towards_sun[2] > 0:
        sun = tuple(300 * v for v in plan.mood.towards_sun)
        scene.lights.append(Lamp(sun, (0, 0, 0), 1, np.array([1.0, 0.93, 0.8]), 0.25))
    backdrop, options, things = _LAYOUTS[plan.layout]
    placed = backdrop(scene, **options)
    for draw, x, z, more in things:
        dx, dz = scene.rng.uniform(-plan.stray, plan.stray, 2)
        placed.append((draw, x + dx, z + dz, more))
    for draw, x, z, more in sorted(placed, key=lambda thing: -thing[2]):  # far things first
        draw(scene, x, z, **more)
    return render_infrared(scene), render_visible(scene)


def main(folder: Path) -> None:
    """Write every scene as ``ir/<name>.png`` and ``vi/<name>.png`` below a folder."""
    for name, plan in PLANS.items():
        for kind, picture in zip(("ir", "vi"), render(plan), strict=True):
            path = folder / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path, compress_level=6)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
