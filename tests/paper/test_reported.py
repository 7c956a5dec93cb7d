"""The paper's numbers as CSV, and folders of images made elsewhere."""

import re

import pandas as pd
import pytest

from fusionlib.baselines import METHODS
from fusionlib.baselines.results import LIST, RELATED
from fusionlib.errors import DatasetError
from fusionlib.files import REPOSITORY
from fusionlib.metrics import PAPER
from paper.reported import (
    ELSEWHERE,
    OWN,
    PAPER_TABLES,
    read_reported,
    result_folders,
    results_root,
)

COMPARED = ["MLFusion", "DATFuse", "LRRNet", "CHITNet", "IVFWSR", "TIMFusion"]
# what the paper's tables hold, in its order; a name as printed → a name in data/paper
COMPOSED = {1: ["LLVIP", "M3FD"], 2: ["MSRS", "RoadScene"], 3: ["TNO"], 4: ["MSRS"]}
KEYS = {
    "w/o CII": "without_cii", "w/o CFF": "without_cff", "w/o CII and CFF": "without_both",
    "Ours": "ours",
}  # fmt: skip
# rows of the paper's Tables 1 to 4, with six numbers a dataset, as its text layer has them
PRINTED = {
    1: """
MLFusion 0.3275 553.87 1.2779 2.7637 0.2800 0.9936 0.4275 675.23 1.2943 4.5659 0.3719 1.2975
DATFuse 0.4691 413.56 1.2972 3.0195 0.3883 1.3473 0.4736 555.48 1.3046 4.1460 0.3314 1.3393
LRRNet 0.4206 572.32 1.3097 2.7998 0.2976 0.9901 0.5156 578.66 1.3634 4.5106 0.3166 1.3407
CHITNet 0.5252 775.84 1.3158 3.5493 0.3881 1.4497 0.4735 804.87 1.3692 4.9710 0.3294 1.4884
IVFWSR 0.2605 584.51 1.2757 2.3347 0.2070 1.2469 0.4472 718.98 1.2678 3.8479 0.2847 1.2975
TIMFusion 0.2895 886.35 1.1581 2.4373 0.3000 0.5524 0.5153 627.03 1.2875 4.3536 0.3190 1.1215
Ours 0.6950 272.64 1.3401 4.4622 0.4693 1.6128 0.6802 400.56 1.3089 6.0424 0.4180 1.5183
""",
    2: """
MLFusion 0.2825 798.82 1.3674 2.4207 0.2111 1.1943 0.4581 542.13 1.3629 4.0150 0.3936 1.3728
DATFuse 0.6299 404.84 1.2680 3.4412 0.4124 1.5900 0.4920 489.05 1.3506 4.2706 0.3523 1.3485
LRRNet 0.4241 677.40 1.2601 2.5557 0.2849 1.0710 0.3872 655.44 1.1970 5.1535 0.3458 0.9411
CHITNet 0.4748 783.83 1.2482 3.3012 0.3569 1.5300 0.4906 881.26 1.4049 5.1939 0.3452 1.5075
IVFWSR 0.3527 748.67 1.3172 21713 0.2462 1.2424 0.3219 1088.85 1.0306 4.0258 0.2242 1.0511
TIMFusion 0.3914 1132.22 1.1094 2.5886 0.3085 1.1499 0.3730 734.92 1.1951 4.4605 0.3914 1.0018
Ours 0.6666 327.47 1.3823 3.5313 0.4601 1.7657 0.5911 465.75 1.3325 5.8211 0.3731 1.5180
""",
    3: """
MLFusion 0.3909 379.92 1.3559 3.5907 0.4040 1.3990
DATFuse 0.4946 437.10 1.3693 3.7790 0.3769 1.3508
LRRNet 0.3588 834.27 1.3107 42212 0.4083 1.3431
CHITNet 0.4393 387.36 1.3804 5.0692 0.4192 1.6149
IVFWSR 0.3299 1381.49 1.2305 3.1430 0.2946 1.3100
TIMFusion 0.3915 695.57 1.2797 3.4787 0.4553 1.0899
Ours 0.5654 268.83 1.3921 4.4210 0.4352 1.5644
""",
    4: """
w/o CII 0.6503 343.19 1.3730 3.5350 0.4456 1.7805
w/o CFF 0.6260 351.21 1.3659 3.5073 0.4389 1.7624
w/o CII and CFF 0.6228 339.40 1.3806 3.4875 0.4462 1.7938
Ours 0.6666 327.47 1.3823 3.5313 0.4601 1.7657
""",
}


def printed(number):
    """(dataset, method) → the six numbers as text."""
    found = {}
    for line in PRINTED[number].strip().splitlines():
        name, values = re.fullmatch(r"(.*?) ((?:[\d.]+ ?)+)", line).groups()
        # the text layer lost two decimal points
        values = [v if "." in v else f"{v[0]}.{v[1:]}" for v in values.split()]
        for i, dataset in enumerate(COMPOSED[number]):
            found[dataset, KEYS.get(name, name)] = values[6 * i : 6 * i + 6]
        assert len(values) == 6 * len(COMPOSED[number])
    return found


def test_all_234_numbers_are_the_papers():
    count = 0
    for number in COMPOSED:
        stored = pd.read_csv(PAPER_TABLES / f"table{number}.csv", dtype=str)
        expected = printed(number)
        lines = stored.set_index(["dataset", "method"])
        methods = dict.fromkeys(method for _, method in expected)
        assert list(lines.index) == [(d, method) for d in COMPOSED[number] for method in methods]
        assert set(stored["source"]) == {f"Table {number}"}
        for key, values in expected.items():
            assert lines.loc[key, ["qabf", "qcv", "ssim", "ag", "vif", "scd"]].tolist() == values
            count += len(values)
        as_numbers = read_reported(number).set_index(["dataset", "method"])
        assert as_numbers[list(PAPER)].equals(lines[list(PAPER)].astype(float))
    assert count == 234
    assert set(COMPARED) == set(ELSEWHERE) | {n for n, m in METHODS.items() if m.group == "paper"}


def test_folders_of_results_are_found_by_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("FUSIONLIB_RESULTS", str(tmp_path))
    for name in ("CHITNet", "another", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "notes.txt").write_text("")
    assert result_folders() == {n: tmp_path / n for n in ("CHITNet", "another")}
    for name in OWN:
        (tmp_path / name).mkdir()
        with pytest.raises(DatasetError, match="rename the folder"):
            result_folders()
        (tmp_path / name).rmdir()
    monkeypatch.setenv("FUSIONLIB_RESULTS", str(tmp_path / "nowhere"))
    with pytest.raises(DatasetError, match=r"FUSIONLIB_RESULTS: .*nowhere is no folder"):
        result_folders()
    monkeypatch.delenv("FUSIONLIB_RESULTS")
    assert results_root().parts[-2:] == ("data", "results")


def test_the_page_says_of_every_system_of_the_paper_what_is_measured():
    page = (REPOSITORY / "docs" / "methods.md").read_text("utf-8")
    cells = re.findall(r"^\| ([\w-]+) \| (.*?) \|", page.split("## Add")[0], re.M)
    found = {system: here for system, here in cells if system != "system"}
    named = (
        "MLFusion DATFuse LRRNet CHITNet IVFWSR TIMFusion DenseFuse RFN-Nest SEDRFuse SwinFusion "
        "CDDFuse Fusion-Mamba FusionGAN DDcGAN Dif-Fusion SDDGAN TarDAL CoCoNet"
    )
    assert list(found) == named.split()
    for name in named.split():
        is_measured, is_reported = found[name] == "measured", found[name].startswith("reported")
        assert (is_measured, is_reported) == (name in METHODS, name in ELSEWHERE)
        assert found[name].startswith("from images") == (name in RELATED)
    listed = pd.read_csv(LIST, dtype=str).groupby(["method", "dataset"]).size()
    for (method, dataset), count in listed.items():
        assert f"{dataset} {count} of " in found[method]


def test_the_page_has_the_cost_that_was_measured():
    page = (REPOSITORY / "docs" / "methods.md").read_text("utf-8")
    rows = pd.read_csv(REPOSITORY / "benchmarks" / "inference.csv", dtype=str)
    for machine, mine in rows.groupby("machine"):
        nearest = min(mine["megapixels"], key=lambda size: abs(float(size) - 0.3072))
        part = page.split(f"{machine}, {nearest} megapixels:")[1].split("\n\n")[1]
        for row in mine[mine["megapixels"] == nearest].itertuples():
            line = f"| {row.method} | {row.seconds} | {row.times_ours} | {row.peak_gb} |"
            assert (line in part) == (row.method not in ("plain", "whole"))
