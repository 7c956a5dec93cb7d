"""Pairs, an encoder and a training that nothing interrupted."""

import dataclasses

import pytest
import torch
from textures import write_pairs
from trainings import CONFIG, build_encoder

from fusionlib.training import Trainer


@pytest.fixture(scope="session")
def encoder():
    with torch.random.fork_rng():
        return build_encoder()


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs"), 5)


@pytest.fixture
def build(pairs, encoder, tmp_path):
    """Trainer on three pairs, validated on two."""

    def trainer(folder="run", **changed):
        config = dataclasses.replace(CONFIG, **changed)
        return Trainer(config, encoder, pairs[:3], pairs[3:], tmp_path / folder)

    return trainer


@pytest.fixture(scope="session")
def whole(pairs, encoder, tmp_path_factory):
    """Folder of a training that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    Trainer(CONFIG, encoder, pairs[:3], pairs[3:], folder).run(progress=False)
    return folder
