"""A command, and a pair to give to it."""

import pytest
from scenes import read_scene

from fusionlib.__main__ import main
from fusionlib.images import save_image


@pytest.fixture
def pair(tmp_path):
    ir, vi = read_scene("dusk_camp")
    return (
        str(save_image(tmp_path / "ir" / "wärme 1: camp.png", ir)),
        str(save_image(tmp_path / "vi" / "camp.webp", vi)),
    )


@pytest.fixture
def run(capsys):
    """Run a command: arguments → exit status, stdout, stderr."""

    def run(*arguments):
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run
