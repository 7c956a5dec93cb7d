"""The end of `python -m paper`: agreement, report, publishing if asked for; and `--verify`."""

from types import SimpleNamespace

import pytest

from paper import agreement, pipeline, provenance, report, verify
from paper.__main__ import main


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """Stands in for notebooks, comparison, report and publishing; what they were given."""
    given = {}
    steps = [SimpleNamespace(name=name) for name in ("05_compare", "08_report")]

    def run_paper(preset, **options):
        given["options"] = options
        return steps

    def publish(run, names):
        given["published"] = names
        return ["one", "two"]

    def write_report(run, done, lines):
        given["reported"] = [step.name for step in done], lines
        return run.out_dir / "report" / "index.html"

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FUSIONLIB_DATA", raising=False)
    monkeypatch.setattr("fusionlib.datasets.USER_DATA", tmp_path / "nothing")
    monkeypatch.setattr(agreement, "compare_run", lambda run: ["7 numbers", "2 pictures"])
    monkeypatch.setattr(pipeline, "run_paper", run_paper)
    earlier = SimpleNamespace(name="00_data")
    monkeypatch.setattr(pipeline, "complete_steps", lambda done: [earlier, *done])
    monkeypatch.setattr(provenance, "publish", publish)
    monkeypatch.setattr(report, "write_report", write_report)
    return given


@pytest.mark.parametrize("publish", [False, True])
def test_r73_only_publish_touches_committed_results(calls, capsys, publish):
    options = ["--seed", "3", "--only", "05_compare", "08_report"]
    assert main([*options, *(["--publish"] if publish else [])]) == 0
    assert calls["options"] == {
        "data_root": None, "encoder": "embedded", "weights": None, "device": "cpu", "seed": 3,
        "only": ["05_compare", "08_report"], "force": False,
    }  # fmt: skip
    lines = ["7 numbers", "2 pictures"]
    assert calls["reported"] == (["00_data", "05_compare", "08_report"], lines)
    assert calls.get("published") == (["05_compare", "08_report"] if publish else None)
    printed = capsys.readouterr().out
    assert "runs/quick/report/index.html" in printed and "7 numbers\n2 pictures\n" in printed
    assert ("published: 2 files" in printed) == publish and "not CLIP" in printed


@pytest.mark.parametrize("wrong", [([], []), (["a table"], []), ([], ["a record"])])
def test_verify_runs_nothing_and_says_what_is_wrong(calls, capsys, monkeypatch, wrong):
    tables, records = wrong
    monkeypatch.setattr(verify, "verify_tables", lambda: (7, list(tables)))
    monkeypatch.setattr(provenance, "problems", lambda: records)
    assert main(["--verify"]) == (2 if tables or records else 0)
    out, err = capsys.readouterr()
    assert calls == {}
    if tables or records:
        assert (tables + records)[0] in err and "1 problems" in err and "found equal" not in out
    else:
        assert "7 numbers" in out and err == ""
