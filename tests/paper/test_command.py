"""The end of `python -m paper`: report and publishing; and `--verify`."""

from types import SimpleNamespace

import pytest

from paper import pipeline, provenance, report, verify
from paper.__main__ import main


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """Stands in for notebooks, report and publishing; what they were given."""
    given = {}
    steps = [SimpleNamespace(name=name) for name in ("05_compare", "08_report")]
    earlier = SimpleNamespace(name="00_data")

    def run_paper(preset, **options):
        given["options"] = options
        return steps

    def publish(run, names):
        given["published"] = names
        return ["one", "two"]

    def write_report(run, done):
        given["reported"] = [step.name for step in done]
        return run.out_dir / "report" / "index.html"

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FUSIONLIB_DATA", raising=False)
    monkeypatch.setattr("fusionlib.datasets.USER_DATA", tmp_path / "nothing")
    monkeypatch.setattr(pipeline, "run_paper", run_paper)
    monkeypatch.setattr(pipeline, "complete_steps", lambda done: [earlier, *done])
    monkeypatch.setattr(provenance, "publish", publish)
    monkeypatch.setattr(report, "write_report", write_report)
    return given


def test_what_ran_is_published_all_that_is_complete_reported_and_the_page_named(calls, capsys):
    assert main(["--seed", "3", "--only", "05_compare", "08_report"]) == 0
    assert calls["options"] == {
        "data_root": None, "encoder": "embedded", "weights": None, "device": "cpu", "seed": 3,
        "only": ["05_compare", "08_report"], "force": False, "timeout": 3600,
    }  # fmt: skip
    assert calls["published"] == ["05_compare", "08_report"]
    assert calls["reported"] == ["00_data", "05_compare", "08_report"]
    printed = capsys.readouterr().out
    assert "report   " in printed and "runs/quick/report/index.html" in printed
    assert "written  2 files" in printed and "not CLIP" in printed


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
