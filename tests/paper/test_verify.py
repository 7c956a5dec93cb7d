"""`python -m paper --verify`: a number that its values do not give is found."""

import numpy as np
import pandas as pd
import pytest

from fusionlib import evaluation
from fusionlib.errors import FusionError
from fusionlib.statistics import summarise
from fusionlib.weights import SHIPPED, load_weights
from paper import claims, tables, verify
from paper.tables import PART, SAME

DATASETS = {"compare": "LLVIP", "brightness": "LLVIP", "generalise": "TNO",
            "generalise_brightness": "TNO"}  # fmt: skip
VARIANT, FEATURES = ("without_both",), ("other_image",)
OTHERS = {"table4_values": VARIANT, "seeds_values": VARIANT, "encoder_values": FEATURES,
          "encoder_letter_values": FEATURES}  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Values, statistics, tables and verdicts, as the notebooks write them."""
    root = tmp_path_factory.mktemp("repository")
    folder, frames = root / "tables" / "reference", {}
    for number, (stem, source) in enumerate(verify.SOURCES.items()):
        rng = np.random.default_rng(number)
        dataset = DATASETS.get(stem.removesuffix("_values"), "MSRS")
        rows = [
            (dataset, name, method, metric, rng.uniform(0.1, 1), "", "")
            for name in "abcdef"
            for method in (source.ours, *OTHERS.get(stem, ("letter", "DATFuse")))
            for metric in (("qabf", "qcv", "viff") if source.statistics else ("mean", "contrast"))
        ]
        frame = pd.DataFrame(rows, columns=[*evaluation.COLUMNS, *evaluation.ORIGIN])
        frames[stem] = frame
        evaluation.write_values(frame, folder / f"{stem}.csv")
        if source.statistics:
            frames[source.statistics] = summarise(frame, ours=source.ours)
            shown = frames[source.statistics].set_index(["dataset", "metric"])
            tables.write_table(shown, folder, source.statistics, "note")
        for name in source.means:
            tables.write_table(tables.mean_table(frame), folder, name, "note")
    encoder, relative = load_weights(SHIPPED).encoder_title, claims.judge_relative(frames)
    for name, table, key in (
        ("numbers", claims.judge_numbers(frames), "method"),
        ("relative", relative, "method"),
        ("verdict", claims.overview(frames, relative).reset_index(), "against"),
        ("claims", claims.judge_claims(frames, encoder), "claim"),
    ):
        tables.write_table(table.set_index(key), folder, name, "note")
    return root


@pytest.fixture
def repository(written, tmp_path):
    for path in (written / "tables" / "reference").glob("*.csv"):
        target = tmp_path / "tables" / "reference" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return tmp_path


def edit(repository, name, change):
    path = repository / "tables/reference" / f"{name}.csv"
    frame = pd.read_csv(path)
    change(frame)
    frame.to_csv(path, index=False)


def as_of_the_paper(path):
    """A table of means with the columns of Tables 1 to 4."""
    frame = pd.read_csv(path).assign(row="measured")
    return frame[["dataset", "method", "row", "n", "qabf", "qcv", "viff"]]


def test_tables_that_fit_their_values_are_found_equal(repository):
    count, wrong = verify.verify_tables(repository)
    assert wrong == [] and count > 500


def test_each_number_typed_into_a_table_is_found(repository):
    typed = {"compare": "qabf", "table3": "qabf", "statistics": "mean", "table4": "qabf",
             "encoder_statistics": "p", "brightness": "contrast", "numbers": "paper",
             "relative": "high", "verdict": "reaches"}  # fmt: skip
    for name, column in typed.items():
        edit(repository, name, lambda frame, c=column: frame.__setitem__(c, frame[c] + 1e-6))
    wrong = verify.verify_tables(repository)[1]
    assert {line.split(":")[0] for line in wrong} == {f"tables/reference/{n}.csv" for n in typed}


def test_typed_verdicts_are_found(repository):
    typed = {"claims": "holds", "numbers": "exceeds", "relative": "agrees"}
    for name, verdict in typed.items():

        def change(frame, verdict=verdict):
            frame.loc[frame.index[frame["verdict"] != verdict][0], "verdict"] = verdict

        edit(repository, name, change)
    wrong = verify.verify_tables(repository)[1]
    for (name, verdict), line in zip(typed.items(), wrong, strict=True):
        assert f"{name}.csv" in line and f"verdict: {verdict}, but its sources give" in line


def test_dropped_rows_and_missing_tables_are_found(repository):
    edit(repository, "numbers", lambda frame: frame.drop(index=0, inplace=True))
    (repository / "tables/reference/relative.csv").unlink()
    numbers, relative = verify.verify_tables(repository)[1]
    assert "numbers.csv: has other rows" in numbers and "relative.csv is missing" in relative


def test_a_changed_value_of_an_image_is_found_in_all_that_came_from_it(repository):
    path = repository / "tables/reference/compare_values.csv"
    frame = evaluation.read_values(path)
    chosen = (frame["method"] == "ours") & (frame["metric"] == "qabf")
    frame.loc[frame.index[chosen][0], "value"] += 0.01
    evaluation.write_values(frame, path)
    wrong = verify.verify_tables(repository)[1]
    named = {line.split("/")[2].split(":")[0] for line in wrong}
    derived = ("compare", "statistics", "table1", "table2", "numbers", "relative")
    assert {f"{name}.csv" for name in derived} <= named
    assert not {"table3.csv", "table4.csv", "encoder.csv", "brightness.csv"} & named


def test_reported_rows_must_be_those_of_data_paper(repository):
    path = repository / "tables/reference/table1.csv"
    frame = as_of_the_paper(path)
    line = frame.iloc[[0]].assign(method="ours", row="reported", n="")
    line[["qabf", "qcv"]] = 0.695, 272.6
    pd.concat([frame, line]).drop(columns="viff").to_csv(path, index=False)
    assert verify.verify_tables(repository)[1] == [
        "tables/reference/table1.csv: LLVIP, ours, reported, qcv: 272.6, "
        "but its sources give 272.64"
    ]


def test_a_variant_without_weights_has_no_number(repository):
    path = repository / "tables/reference/table4.csv"
    frame = as_of_the_paper(path)
    line = frame.iloc[[0]].assign(method="without_cii", row="not trained by this recipe", n="")
    line[["qabf", "qcv", "viff"]] = np.nan
    pd.concat([frame, line]).to_csv(path, index=False)
    assert verify.verify_tables(repository)[1] == []
    line["qabf"] = 0.65
    pd.concat([frame, line]).to_csv(path, index=False)
    (wrong,) = verify.verify_tables(repository)[1]
    assert "MSRS, without_cii, not trained by this recipe, qabf: 0.65" in wrong


def test_values_of_unknown_use_and_missing_values_are_reported(repository):
    folder = repository / "tables/reference"
    (folder / "other_values.csv").write_bytes((folder / "compare_values.csv").read_bytes())
    (folder / "brightness_values.csv").unlink()
    unknown, missing = sorted(verify.verify_tables(repository)[1], reverse=True)
    assert "other_values.csv: no table is known" in unknown
    assert "claims.csv: nothing to compute it from: no brightness_values" in missing
    with pytest.raises(FusionError, match="no per-image values"):
        verify.verify_tables(folder)


def test_rows_of_a_part_of_the_pairs_come_from_its_values_and_ours_of_the_same(repository):
    folder, names = repository / "tables" / "reference", [*"abc"]
    values = evaluation.read_values(folder / "generalise_values.csv")
    values = values[values["name"].isin(names)]
    part = values.query("method == 'DATFuse'").assign(method="CDDFuse", value=values["value"] / 2)
    evaluation.write_values(part, folder / "generalise_parts.csv")
    table = as_of_the_paper(folder / "table3.csv")
    for row, frame in ((PART, part), (SAME, values.query("method == 'ours'"))):
        means = frame.groupby("metric")["value"].mean()[["qabf", "qcv", "viff"]]
        table.loc[len(table)] = ["TNO", "CDDFuse", row, len(names), *means]
    table.to_csv(folder / "table3.csv", index=False)
    assert verify.verify_tables(repository)[1] == []
    edit(repository, "table3", lambda found: found.__setitem__("qabf", found["qabf"].round(3)))
    wrong = verify.verify_tables(repository)[1]
    assert len(wrong) == 5 and sum("CDDFuse" in line for line in wrong) == 2
