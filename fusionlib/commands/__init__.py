"""The commands of ``fusionlib``, one module each, with their options."""
