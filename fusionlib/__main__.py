"""Command line: ``fusionlib fuse | train | evaluate | data``, or ``python -m fusionlib``."""

import argparse
import importlib
import os
import sys
import warnings

from fusionlib import __version__
from fusionlib.commands import data, evaluate, fuse, train
from fusionlib.commands.options import spread_auto
from fusionlib.errors import FusionError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status (0, 2 for an error that is explained, 130)."""
    # before torch loads OpenMP: threads that wait by spinning take a busy machine's time away
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["paper"]:  # its name before it had a house of its own
        return importlib.import_module("paper.__main__").main(arguments[1:])
    return run_command(_parser(), arguments)


def run_command(parser: argparse.ArgumentParser, arguments: list[str] | None) -> int:
    """Parse, run ``options.command``, and turn what went wrong into an exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what a pipe on Windows cannot encode, such as λ
            stream.reconfigure(errors="replace")
    arguments = spread_auto(sys.argv[1:] if arguments is None else arguments)
    try:
        options = parser.parse_args(arguments)
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            options.command(options)
        sys.stdout.flush()  # so that a closed pipe is noticed here
    except BrokenPipeError:  # `… | head`: Python's documentation asks for this, else exit warns
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except FusionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _show_warning(message: Warning | str, *_: object) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fusionlib",
        description="Infrared and visible image fusion after MGFusion (Yang et al., 2024).",
    )
    parser.add_argument("--version", action="version", version=f"fusionlib {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    for command in (fuse, evaluate, train, data):
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
