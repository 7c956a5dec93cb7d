"""MGFusion (Yang et al., 2024): infrared and visible image fusion guided by an image encoder."""

__version__ = "0.2.0"
