"""CLIP-driven infrared and visible image fusion: the thin library behind the notebooks."""

__version__ = "0.1.0"
