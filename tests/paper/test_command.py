"""The options of `python -m paper` that end in something else than a run: publish, verify."""

import pytest

from paper import pipeline, provenance, verify
from paper.__main__ import main


@pytest.mark.parametrize("publish", [False, True])
def test_r73_only_publish_touches_committed_results(tmp_path, capsys, monkeypatch, publish):
    """No notebook runs; comparison, report and what is printed are real."""
    given = {}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "run_paper", lambda preset, **rest: given.update(rest) or [])
    monkeypatch.setattr(pipeline, "complete_steps", lambda steps: steps)
    monkeypatch.setattr(provenance, "publish", lambda run, names: given.update(to=names) or [1, 2])
    options = ["--data-root", "synthetic", "--seed", "3", "--only", "05_compare"]
    assert main([*options, *(["--publish"] if publish else [])]) == 0
    assert given.pop("to", None) == ([] if publish else None)
    assert given == {
        "data_root": "synthetic", "encoder": "embedded", "weights": None, "device": "cpu",
        "seed": 3, "only": ["05_compare"], "force": False,
    }  # fmt: skip
    printed = capsys.readouterr().out
    assert "runs/quick/report/index.html" in printed and "nothing here has a counter" in printed
    assert ("published: 2 files" in printed) == publish and "not CLIP" in printed


@pytest.mark.parametrize("wrong", [([], []), (["a table"], []), ([], ["a record"])])
def test_verify_runs_nothing_and_says_what_is_wrong(capsys, monkeypatch, wrong):
    tables, records = wrong
    monkeypatch.setattr(pipeline, "run_paper", None)  # not to be called
    monkeypatch.setattr(verify, "verify_tables", lambda: (7, list(tables)))
    monkeypatch.setattr(provenance, "problems", lambda: records)
    assert main(["--verify"]) == (2 if tables or records else 0)
    out, err = capsys.readouterr()
    if tables or records:
        assert (tables + records)[0] in err and "1 problems" in err and "found equal" not in out
    else:
        assert "7 numbers" in out and err == ""
