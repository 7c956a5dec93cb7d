"""Spoiled files through every reader: a few at every run, 20,000 under `make test-slow`."""

import fuzz
import pytest

SEEDS = (1, 2)  # of the slow run


def outcome(seed, index, folder):
    return fuzz.run_case(seed, index, folder)[1:]


def test_r04_r27_r31_spoiled_files_are_read_rightly_or_refused(tmp_path):
    told, outcomes = [], set()
    for index in range(300):
        folder = tmp_path / str(index)
        folder.mkdir()
        what, fault = outcome(0, index, folder)
        outcomes.add(what)
        told += [f"case 0 {index}: {fault}"] if fault else []
    assert not told
    assert outcomes == {"read", "refused"}


def test_cases_are_the_same_each_time_and_differ_from_each_other():
    first = [fuzz.case(1, index)[1] for index in range(50)]
    fuzz.SOUND.clear()
    assert [fuzz.case(1, index)[1] for index in range(50)] == first
    assert len(set(first)) > 40 and first != [fuzz.case(2, index)[1] for index in range(50)]


@pytest.mark.parametrize(
    "reader, outcome",
    [
        (lambda *a: 1 / 0, "raised"),
        (lambda *a: fuzz.warnings.warn("odd", stacklevel=1), "warned"),
        (lambda *a: fuzz._expect(False, "other pixels"), "wrong"),
    ],
)
def test_faults_are_noticed(tmp_path, monkeypatch, reader, outcome):
    monkeypatch.setattr(fuzz, "READERS", dict.fromkeys(fuzz.READERS, reader))
    _, found, told = fuzz.run_case(0, 0, tmp_path)
    assert found == outcome and told.startswith(f"{outcome}: ")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", SEEDS)
def test_r04_r26_r31_ten_thousand_spoiled_files(seed):
    """A crash or a hang counts as a fault, too: the files are read in a process of their own."""
    report = fuzz.fuzz(seed, 10_500)
    print(report)
    assert not report.faults and sum(report.counts.values()) == 10_500
