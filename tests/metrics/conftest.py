import numpy as np
import pytest
from scipy import ndimage


@pytest.fixture(scope="session")
def triple():
    """Infrared, visible and fused 8-bit images with texture of several sizes, 213 × 307."""
    rng = np.random.default_rng(7)

    def texture(sigma):
        noise = ndimage.gaussian_filter(rng.normal(size=(213, 307)), sigma)
        return 128 + 50 * noise / noise.std()

    ir, vi = texture(4), texture(1)
    fused = np.maximum(ir, vi) + rng.normal(0, 3, ir.shape)
    return tuple(np.rint(x.clip(0, 255)).astype(np.uint8) for x in (ir, vi, fused))
