"""The drawn scenes, as arrays."""

import numpy as np
from PIL import Image

from fusionlib.datasets import SCENES


def read_scene(name):
    """Infrared (H, W) and visible (H, W, 3), uint8."""
    return tuple(np.asarray(Image.open(SCENES / kind / f"{name}.png")) for kind in ("ir", "vi"))
