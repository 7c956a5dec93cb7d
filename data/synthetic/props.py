"""What stands in the synthetic scenes: people, cars, plants, lamps, signs, tent, fire, smoke."""

from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw
from scenery import COATS, MATERIALS, PAINTS, Lamp, Scene, fractal_noise, smooth_step
from scipy.ndimage import gaussian_filter, gaussian_filter1d

# --- people ----------------------------------------------------------------------------------

SKIN, COAT, TROUSERS, SHOE, HAIR = range(5)


def _bones(pose: str, phase: float) -> list[tuple]:
    """Tapered capsules ``(x0, y0, r0, x1, y1, r1, part)`` of a body of height 1, facing right."""
    bones, front = [], pose == "front"
    hip_y, seat = (0.30, 1.45) if pose == "sit" else (0.53, 0.0)
    low = 0.53 - hip_y
    for side in (-1, 1):
        swing = 0.37 * np.sin(phase) * side * (not front)
        hip = np.array([0.048 * side if front else 0.0, hip_y])
        thigh = swing + seat + 0.03 * side * front
        shin = thigh - (0.10 + max(0.0, -1.1 * swing)) * (not front) - seat
        knee = hip + 0.245 * np.array([np.sin(thigh), -np.cos(thigh)])
        ankle = knee + 0.235 * np.array([np.sin(shin), -np.cos(shin)])
        ankle[1] = max(ankle[1], 0.035)
        toe = ankle + (np.array([0.018 * side, -0.022]) if front else np.array([0.075, -0.018]))
        bones += [(*hip, 0.066, *knee, 0.043, TROUSERS), (*knee, 0.042, *ankle, 0.026, TROUSERS),
                  (*ankle, 0.025, *toe, 0.021, SHOE)]  # fmt: skip
        shoulder = np.array([0.098 * side if front else 0.0, 0.79 - low])
        arm = -0.9 * swing + 0.12 * side * front + 0.7 * (seat > 0)
        bend = 0.30 * (not front) + 0.8 * (seat > 0)
        elbow = shoulder + 0.165 * np.array([np.sin(arm), -np.cos(arm)])
        hand = elbow + 0.14 * np.array([np.sin(arm + bend), -np.cos(arm + bend)])
        bones += [(*shoulder, 0.040, *elbow, 0.031, COAT), (*elbow, 0.031, *hand, 0.023, COAT),
                  (*hand, 0.020, *(hand + 0.10 * (hand - elbow)), 0.021, SKIN)]  # fmt: skip
    top, width, lean = 1 - low, 0.052 * front, 0.012 * (not front)
    for side in (-width, width):
        bones.append((side, top - 0.235, 0.068, 0.8 * side, top - 0.45, 0.066, COAT))
    nape = top - (0.065 if lean else 0.043)
    return [*bones, (0, top - 0.2, 0.035, lean, top - 0.12, 0.033, SKIN),
            (lean, top - 0.1, 0.043, lean * 0.6, top - 0.062, 0.053, SKIN),
            (lean * 3, top - 0.082, 0.012, lean * 4.6, top - 0.092, 0.010, SKIN),
            (-lean * 2.2, nape, 0.042 + 0.008 * front, -lean * 0.8, top - 0.042, 0.048, HAIR),
            ]  # fmt: skip


def draw_person(scene, x, z, facing=1, phase=1.3, pose="walk", clothes=None) -> None:
    """A person as the smooth union of capsules: head, torso and limbs, warmest at the skin."""
    if clothes is None:
        clothes = ((0.46, 0.27, 0.19), COATS[scene.rng.integers(len(COATS))], (0.06, 0.07, 0.1))
    height = 1.74 * scene.rng.uniform(0.95, 1.05)
    reach = np.array([-0.36, 0.42]) * height * facing
    box = scene.box(scene.project(x + reach, np.array([-0.02, 1.03]) * height, z))
    unit = scene.f * height / z  # pixels per body height
    u = (scene.col[box[1]] - scene.f * x / z) / unit * facing
    v = (scene.eye - scene.row[box[0], None] * z / scene.f) / height
    total, nearest, part = 0.0, np.full((v.shape[0], u.size), 9.0), np.zeros((), int)
    for x0, y0, r0, x1, y1, r1, kind in _bones(pose, phase):
        bx, by = x1 - x0, y1 - y0
        along = np.clip(((u - x0) * bx + (v - y0) * by) / (bx * bx + by * by), 0, 1)
        d = np.hypot(u - x0 - along * bx, v - y0 - along * by) - r0 - along * (r1 - r0)
        total = total + np.exp(np.clip(-d / 0.007, -40, 40))
        closer = d < nearest
        nearest, part = np.where(closer, d, nearest), np.where(closer, kind, part)
    distance = -0.007 * np.log(total + 1e-30)
    alpha = np.clip(0.5 - distance * unit, 0, 1).astype(np.float32)
    if not alpha.size:
        return
    scene.shade_ground(x, z, 0.45, 0.22, dark=0.55, warm=0.4)
    volume = np.sqrt(np.clip(-distance / 0.06, 0, 1))
    slope = np.gradient(gaussian_filter(distance, 1.0), axis=1) * unit * facing
    folds = scene.grain(u * 90 + 30, v * 40 + x * 7)
    shade = (0.62 + 0.42 * volume + 0.25 * slope * np.sign(scene.mood.towards_sun[0] or -1)
             + 0.10 * folds * np.isin(part, (COAT, TROUSERS)))  # fmt: skip
    tones = np.array([*clothes, (0.05, 0.04, 0.04), (0.06, 0.04, 0.03)])
    air = scene.mood.air
    warm = np.array([32.5, 0.38 * air + 18.5, 0.38 * air + 18.3, 0.6 * air + 9.5, 0.4 * air + 17.5])
    temp = warm[part] * (0.93 + 0.07 * volume) + 0.45 * folds
    scene.paint(box, alpha, tones[part] * np.clip(shade, 0.2, 1.6)[..., None], temp, z,
                sun=0.55)  # fmt: skip


# --- cars ------------------------------------------------------------------------------------

_OUTLINE = np.array([(0.10, 0.24), (0.0, 0.50), (0.04, 0.82), (0.16, 1.00), (0.42, 1.05),
                     (0.90, 1.40), (1.45, 1.49), (2.15, 1.46), (2.95, 1.03), (3.75, 0.88),
                     (4.10, 0.74), (4.20, 0.50), (4.12, 0.24)])  # fmt: skip
_SIDE_GLASS = (((0.80, 1.04), (1.08, 1.34), (1.58, 1.41), (1.60, 1.03)),
               ((1.70, 1.03), (1.68, 1.41), (2.10, 1.38), (2.72, 1.02)))  # fmt: skip
# at the tail, from and up to this height, from and up to this width, albedo, warmth, glow
_TRIM = ((1, 0.68, 0.90, 0.50, 0.80, (0.40, 0.02, 0.02), 1, (1.6, 0.05, 0.03)),
         (1, 0.68, 0.90, -0.80, -0.50, (0.40, 0.02, 0.02), 1, (1.6, 0.05, 0.03)),
         (1, 0.50, 0.62, -0.26, 0.26, (0.65, 0.65, 0.60), -1, (0, 0, 0)),
         (1, 0.20, 0.40, -0.74, 0.74, (0.04, 0.04, 0.04), 5, (0, 0, 0)),
         (0, 0.58, 0.76, 0.44, 0.78, (0.75, 0.77, 0.80), 3, (11, 10, 8)),
         (0, 0.58, 0.76, -0.78, -0.44, (0.75, 0.77, 0.80), 3, (11, 10, 8)),
         (0, 0.42, 0.64, -0.36, 0.36, (0.03, 0.03, 0.03), 16, (0, 0, 0)),
         (0, 0.20, 0.36, -0.74, 0.74, (0.04, 0.04, 0.04), 8, (0, 0, 0)))  # fmt: skip


def _half_width(y):
    return 0.87 - 0.55 * np.clip(y - 0.98, 0, None) - 0.08 * np.clip(0.5 - y, 0, None)


def _car_shell(line, colour, running, lights):
    """Strips across the car, tail to nose: ``(corners (4, 3), normal, look)``."""
    for (l0, y0), (l1, y1) in pairwise(line):
        normal = np.array([-(y1 - y0), 0, l1 - l0]) / np.hypot(l1 - l0, y1 - y0)
        sky, middle, y = max(normal[2], 0), (l0 + l1) / 2, (y0 + y1) / 2
        a, b = _half_width(y0), _half_width(y1)
        warm = (14 * running - 2) * np.exp(-((l0 - 3.6) ** 2)) - 4 * normal[2] + 1
        bands = [(-a, a, -b, b, (*np.multiply(colour, 0.5 + 0.5 * sky), warm, 0, 0, 0))]
        if 1.06 < y < 1.42 and not 0.95 < middle < 2.2:
            glass = 0.05 + sky * np.array([0.14, 0.17, 0.20])
            a, b = a - 0.07, b - 0.07
            bands.append((-a, a, -b, b, (*glass, -1.5, 0, 0, 0)))
        for tail, low, high, s0, s1, albedo, warm, glow in _TRIM:
            if low < y < high and (middle < 2) == tail:
                look = (*albedo, warm * running, *np.multiply(glow, lights))
                bands.append((s0, s1, s0, s1, look))
        yield [(np.array([(l0, s0, y0), (l0, s1, y0), (l1, s3, y1), (l1, s2, y1)]), normal, look)
               for s0, s1, s2, s3, look in bands]  # fmt: skip


def _car_side(line, colour, running, side):
    """One flank: body, windows, wheels."""
    shapes = [(line, (*np.multiply(colour, 0.75), -0.5))]
    shapes += [(glass, (0.07, 0.085, 0.10, -1.0)) for glass in _SIDE_GLASS]
    shapes.append(([(0.2, 0.24), (4.0, 0.24), (4.0, 0.33), (0.2, 0.33)], (0.04, 0.04, 0.04, 0)))
    angle = np.linspace(0, 2 * np.pi, 28)
    for hub in (0.82, 3.36):
        for radius, look in ((0.39, (0.01, 0.01, 0.01, 3 * running)),
                             (0.33, (0.03, 0.03, 0.03, 9 * running)),
                             (0.21, (0.34, 0.35, 0.36, 5 * running)),
                             (0.07, (0.10, 0.10, 0.10, 8 * running))):  # fmt: skip
            height = np.maximum(0.33 + radius * np.sin(angle), 0)
            shapes.append((np.stack([hub + radius * np.cos(angle), height], -1), look))
    for points, look in shapes:
        corners = [(along, side * _half_width(max(y, 0.6)), y) for along, y in points]
        yield np.array(corners), np.array([0, side, 0]), (*look, 0, 0, 0)


def draw_car(scene, x, z, yaw=0.0, running=True, lights=0.0) -> None:
    """A car centred at (x, z); `yaw` 0 shows its tail, pi its front, pi / 2 drives to the right."""
    sin, cos = np.sin(yaw), np.cos(yaw)
    colour = PAINTS[scene.rng.integers(len(PAINTS))]
    knots = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(_OUTLINE, axis=0).T))])
    line = [np.interp(np.linspace(0, knots[-1], 64), knots, v) for v in _OUTLINE.T]
    line = gaussian_filter1d(np.stack(line, -1), 1.3, axis=0, mode="nearest")
    strips = list(_car_shell(line, colour, running, lights))[:: -1 if cos > 0 else 1]
    faces = [face for strip in strips for face in strip]
    faces += [f for side in (-1, 1) for f in _car_side(line, colour, running, side)]
    polygons, table = [], []
    for points, (nl, ns, ny), (r, g, b, warm, *glow) in faces:
        along, across = points[:, 0] - 2.1, points[:, 1]
        corners = np.stack([x + across * cos + along * sin, points[:, 2],
                            z - across * sin + along * cos], -1)  # fmt: skip
        sight = corners.mean(0) - (0, scene.eye, 0)
        if sight[0] * (ns * cos + nl * sin) + sight[1] * ny + sight[2] * (nl * cos - ns * sin) < 0:
            polygons.append(scene.project(*corners.T))
            table.append((r, g, b, scene.heat("metal", warm + 2), *glow))
    scene.shade_ground(x, z, 0.8 + 1.2 * abs(sin), 0.8 + 1.2 * abs(cos), 0.85, 4.0 * running)
    draw_polygons(scene, polygons, table, z - 2.0 * abs(cos) - 0.8 * abs(sin))
    for side in (-0.61, 0.61) if lights and cos < 0.3 else ():
        place = (x + side * cos + 2.15 * sin, 0.67, z - side * sin + 2.15 * cos)
        beam = np.array([70, 64, 52]) * lights
        scene.lights.append(Lamp(place, (sin, -0.09, cos), 14, beam, 0.11 * lights))


def draw_polygons(scene: Scene, polygons, table, depth: float) -> None:
    """Filled polygons in pixels, later ones on top; `table` as in `Scene.paint_ids`."""
    box = scene.box(np.vstack(polygons))
    ids = Image.new("I", (box[1].stop - box[1].start, box[0].stop - box[0].start))
    pen = ImageDraw.Draw(ids)
    for i, points in enumerate(polygons):
        pen.polygon([tuple(p) for p in points - (box[1].start, box[0].start)], fill=i + 1)
    scene.paint_ids(box, np.asarray(ids), table, depth)


# --- plants, lamps, camp, smoke --------------------------------------------------------------


def _branches(rng, x, height):
    """A fractal tree: limbs ``(base, end, thick, thin)`` and the tips that carry leaves."""
    limbs, tips = [], []
    todo = [(np.array([x, 0.0]), 0.0, height * 0.30, height * 0.026, 0)]
    while todo:
        base, angle, length, thick, level = todo.pop()
        end = base + length * np.array([np.sin(angle), np.cos(angle)])
        limbs.append((base, end, thick, thick * 0.68))
        if level >= 2:
            tips.append(end)
        for turn in (-0.46, 0.42, 0.0)[: (3, 3, 3, 2, 2, 0)[level]]:
            todo.append((end, angle * 0.85 + turn + rng.normal(0, 0.16),
                         length * rng.uniform(0.62, 0.80), thick * 0.62, level + 1))  # fmt: skip
    return limbs, np.array(tips)


def draw_plant(scene, x, z, height=7.0, kind="tree") -> None:
    """A tree, fir or bush: limbs between dark leaves at the back and sunlit ones in front."""
    rng, limbs = scene.rng, []
    full = float(np.clip(height * scene.f / z / 350, 0.25, 3.0))  # more leaves when large
    if kind == "tree":
        limbs, cloud = _branches(rng, x, height)
        cloud, leaf = np.repeat(cloud, int(24 * full), 0), 0.0085 * height / np.sqrt(full)
    elif kind == "fir":
        count = int(3000 * full)
        t = 1 - rng.random(count) ** 0.6
        limbs.append((np.array([x, 0.0]), np.array([x, height]), height * 0.017, 0.01))
        tier = 1 - ((t * 13) % 1)
        reach = (1 - t) * height * 0.20 * (0.45 + 0.55 * tier)
        cloud = np.stack([x + reach * np.sin(rng.uniform(-1.6, 1.6, count)),
                          height * (0.07 + 0.93 * t) - 0.1 * reach], -1)  # fmt: skip
        leaf = 0.010 * height / np.sqrt(full)
    else:
        angle, r = rng.random((2, int(1800 * full))) * [[np.pi], [1]]
        r = height * np.sqrt(r) * (0.8 + 0.2 * np.sin(angle * 7 + x * 5))
        cloud = np.stack([x + 0.75 * r * np.cos(angle), 0.9 * r * np.sin(angle)], -1)
        leaf = 0.026 * height / np.sqrt(full)
    offset = np.clip(rng.normal(0, 1, cloud.shape), -1.4, 1.4)
    local = 0.5 + 0.5 * (0.8 * offset[:, 1] - 0.45 * offset[:, 0])
    across, above = ((cloud - cloud.mean(0)) / np.maximum(cloud.std(0), 0.01)).T
    shade = 0.5 * local + 0.5 * (0.5 + 0.22 * (0.8 * above - 0.45 * across))
    shade = np.clip(shade + rng.normal(0, 0.10, len(cloud)), 0, 0.999)
    cloud = cloud + offset * leaf * ((1.2, 0.8) if kind == "fir" else (2.8, 2.1))
    scene.shade_ground(x, z, 0.16 * height, 0.1 * height, 0.5)
    _paint_plant(scene, limbs, cloud, shade, leaf, z, kind)


def _paint_plant(scene, limbs, cloud, shade, leaf, z, kind):
    levels, unit = 16, scene.f / z
    tips = [scene.project(*np.transpose(limb[:2]), z) for limb in limbs]
    leaves = scene.project(*cloud.T, z)
    box = scene.box(np.vstack([leaves, *tips]), 6)
    origin = np.array([box[1].start, box[0].start])
    ids = Image.new("I", (box[1].stop - box[1].start, box[0].stop - box[0].start))
    pen = ImageDraw.Draw(ids)
    size = np.maximum(leaf * unit * scene.rng.uniform(0.7, 1.3, len(cloud)), 0.9)
    flat = size * (0.5 if kind == "fir" else 0.65)
    corners = np.stack([leaves[:, 0] - size, leaves[:, 1] - flat, leaves[:, 0] + size,
                        leaves[:, 1] + flat], -1) - np.tile(origin, 2)  # fmt: skip
    fill, order = (shade * levels).astype(int) + 2, np.argsort(shade, kind="stable")
    for i in order[: len(order) // 3]:
        pen.ellipse(tuple(corners[i]), fill=int(fill[i]))
    for (start, end), (*_, t0, t1) in zip(tips, limbs, strict=True):
        (ax, ay), (bx, by) = start - origin, end - origin
        nx, ny = np.array([ay - by, bx - ax]) / max(np.hypot(bx - ax, by - ay), 1e-6) * unit
        quad = [(ax + nx * t0, ay + ny * t0), (bx + nx * t1, by + ny * t1),
                (bx - nx * t1, by - ny * t1), (ax - nx * t0, ay - ny * t0)]  # fmt: skip
        pen.polygon(quad, fill=1)
    for i in order[len(order) // 3 :]:
        pen.ellipse(tuple(corners[i]), fill=int(fill[i]))
    t = np.linspace(0, 1, levels)[:, None]
    green = np.array(MATERIALS["needle" if kind == "fir" else "leaf"].albedo)
    tint = green * (0.30 + 1.15 * t) * (1 + t * np.array([0.25, 0.05, 0.0]))
    looks = np.hstack([tint, scene.heat("leaf", 1.6 * t - 1.2), np.zeros((levels, 3))])
    bark = (*MATERIALS["bark"].albedo, scene.heat("bark"), 0, 0, 0)
    scene.paint_ids(box, np.asarray(ids), np.vstack([bark, looks]), z)


def draw_street_lamp(scene, x, z, height=5.5, on=True) -> None:
    """A post with an arm over the road; when on, a glowing disc and a pool of light."""
    colour = np.array([1.0, 0.70, 0.36])
    bend, reach = np.linspace(0, np.pi / 2, 8), -np.sign(x) * 1.1
    arm = [(x + reach * (1 - np.cos(b)), height - 0.6 + 0.7 * np.sin(b)) for b in bend]
    hx, hy, angle = x + reach * 1.1, height + 0.07, np.linspace(0, 2 * np.pi, 24)
    disc = max(0.17, 2.6 * z / scene.f) * np.stack([1.3 * np.cos(angle), 0.8 * np.sin(angle)], -1)
    parts = [[(x - 0.07, 0), (x - 0.04, height - 0.5), (x + 0.04, height - 0.5), (x + 0.07, 0)],
             arm + [(px, py - 0.07) for px, py in arm[::-1]],
             [(hx - 0.34, hy), (hx - 0.25, hy + 0.13), (hx + 0.25, hy + 0.13), (hx + 0.34, hy)],
             np.add(disc, (hx, hy - 0.04))]  # fmt: skip
    table = [(0.07, 0.075, 0.08, scene.heat("metal"), 0, 0, 0)] * 3
    table.append((0.8, 0.8, 0.8, scene.mood.air + 14, *(colour * 14)))
    if on:
        scene.lights.append(Lamp((hx, hy, z), (0, -1, 0), 1.2, colour * 8, 0.03 + 0.4 / z))
    polygons = [scene.project(*np.transpose(p), z) for p in parts]
    draw_polygons(scene, polygons[: 3 + on], table, z)


def draw_sign(scene, x, z) -> None:
    """A round speed-limit sign on a post."""
    angle = np.linspace(0, 2 * np.pi, 32)
    disc = np.stack([x + np.cos(angle) * 0.36, 2.5 + np.sin(angle) * 0.36], -1)
    post = np.array([(x - 0.04, 0), (x - 0.04, 2.5), (x + 0.04, 2.5), (x + 0.04, 0)])
    bars = [np.array([(x + a, 2.34), (x + a, 2.66), (x + b, 2.66), (x + b, 2.34)])
            for a, b in ((-0.17, -0.11), (0.0, 0.06), (0.13, 0.19))]  # fmt: skip
    shapes = [post, disc, (disc - (x, 2.5)) * 0.72 + (x, 2.5), *bars]
    tones = [(0.3, 0.3, 0.3), (0.55, 0.03, 0.03), (0.75, 0.75, 0.72), *[(0.03, 0.03, 0.03)] * 3]
    table = [(*tone, scene.heat("metal"), 0, 0, 0) for tone in tones]
    scene.shade_ground(x, z, 0.3, 0.2, 0.4)
    draw_polygons(scene, [scene.project(*shape.T, z) for shape in shapes], table, z)


def draw_tent(scene, x, z) -> None:
    """A ridge tent: open front, one long side, dim light inside."""
    front, back = [(-1.1, 0), (0, 1.45), (1.1, 0)], [(-2.6, 0.0), (-1.5, 1.4)]
    shapes = [([back[0], back[1], front[1], front[0]], 0.75, 0.16), (front, 1.0, 0.30),
              ([(-0.42, 0), (0, 1.15), (0.42, 0)], 0.1, 1.1),
              ([(-0.42, 0), (0, 1.15), (-0.2, 0.3), (-0.55, 0)], 1.2, 0.25)]  # fmt: skip
    cloth, glow = np.array(MATERIALS["canvas"].albedo), np.array([0.35, 0.19, 0.07])
    table = [(*(cloth * a), scene.heat("canvas", 6 * e), *(glow * e)) for _, a, e in shapes]
    polygons = [scene.project(*np.add(p, (x, 0)).T, z) for p, _, _ in shapes]
    scene.shade_ground(x, z, 2.0, 0.8, 0.6)
    draw_polygons(scene, polygons, table, z)


def draw_fire(scene, x, z, size=0.75) -> None:
    """A camp fire: crossed logs, tongues of flame, light on everything around."""
    polygons, table, t = [], [], np.linspace(-1, 1, 25)
    for lean in (-1, 1, -0.5, 0.6):
        log = [(-0.42, 0.0), (-0.40, 0.10), (0.40, 0.20), (0.42, 0.10)]
        polygons.append(np.array([(lx * np.sign(lean), ly * abs(lean)) for lx, ly in log]))
        table.append((0.10, 0.06, 0.04, 45.0, 0.15, 0.03, 0))
    for scale, glow in ((1.0, (3.0, 0.7, 0.06)), (0.72, (6, 2.2, 0.25)), (0.42, (9, 5.5, 1.6))):
        for shift, tall in ((-0.22, 0.6), (0.2, 0.72), (0.0, 1.15)):
            wide = 0.17 * scale * np.sin(np.pi * np.abs(np.abs(t) - 1) ** 0.7) * np.sign(t)
            sway = 0.05 * np.sin(5 * (1 - np.abs(t)) + 9 * shift)
            rise = 0.08 + tall * scale * (1 - np.abs(t))
            polygons.append(np.stack([shift + wide + sway, rise], -1))
            table.append((0, 0, 0, 90.0, *glow))
    points = [scene.project(x + size * p[:, 0], size * p[:, 1], z) for p in polygons]
    draw_polygons(scene, points, table, z)
    scene.lights.append(Lamp((x, 0.7, z - 0.3), (0, 0, 0), 0, np.array([2.6, 1.15, 0.38]), 0.10))


def draw_smoke(scene, x, z, size=3.0) -> None:
    """A billowing cloud before everything beyond `z`: opaque to light, thin for heat."""
    u = (scene.col * z / scene.f - x) / size
    v = (scene.eye - scene.row[:, None] * z / scene.f) / size
    warp = fractal_noise(scene.rng, scene.h, scene.w, scene.w / 6, 5)
    billow = 1 - np.abs(fractal_noise(scene.rng, scene.h, scene.w, scene.w / 9, 6))
    r = np.hypot(u - 0.25 * v + 0.12 * warp, (v - 0.38) * 1.25 + 0.10 * warp)
    cloud = smooth_step(1.0, 0.35, r + 0.16 * (0.6 - billow))
    soft = gaussian_filter(cloud + 0.35 * cloud * billow, scene.w / 110)
    relief = soft - np.roll(soft, (-scene.w // 50, -scene.w // 70), (0, 1))
    tone = 0.68 - 0.40 * relief + 0.06 * billow + 0.16 * np.clip(v, 0, 1.2)
    scene.smoke = (z, 1 - np.exp(-3 * cloud), tone)
