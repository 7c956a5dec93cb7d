"""What the paper reports, and images of methods that run elsewhere.

The paper's numbers are in ``data/paper/table1.csv`` … ``table4.csv``. A method that cannot run here
is measured from a folder of its fused images, ``<results>/<method>/<dataset>/<name>.png``.
"""

import os
from pathlib import Path

import pandas as pd

from fusionlib.baselines import METHODS
from fusionlib.baselines.results import results_root
from fusionlib.errors import DatasetError
from fusionlib.files import DATA

PAPER_TABLES = DATA / "paper"
OURS = "ours"  # the paper's own method, reported or measured
LETTER = "letter"  # the same network, trained by the text's own recipe
OWN = (LETTER, OURS)
TITLES = {  # how tables and figures call what is no method of others
    LETTER: "ours, to the letter",
    OURS: "ours",
    "without_cii": "w/o CII",
    "without_cff": "w/o CFF",
    "without_both": "w/o CII and CFF",
    "real": "real features",
    "other_image": "features of another image",
    "zeros": "zeros",
    "random_encoder": "features of a random encoder",
}
UNAVAILABLE = "published weights could not be downloaded"
ELSEWHERE = {  # methods of the paper's tables that cannot run here, and why
    # H. Li et al., IEEE TIP, 2021 (Li et al., 2021a); yuliu316316/MetaLearning-Fusion
    "MLFusion": UNAVAILABLE,
    # Du et al., arXiv:2309.06118 (Du, 2023); lhf12278/CHITNet
    "CHITNet": "weights never published",
    # H. Li, J. Liu, Y. Zhang, Y. Liu, A Deep Learning Framework for Infrared and Visible Image
    # Fusion Without Strict Registration, IJCV, 2023, doi:10.1007/s11263-023-01948-x
    # (Li et al., 2023a); yuliu316316/IVF-WoReg
    "IVFWSR": UNAVAILABLE,
    # R. Liu et al., IEEE TPAMI, 2024 (Liu R. et al., 2024); LiuZhu-CV/TIMFusion
    "TIMFusion": UNAVAILABLE,
}


def read_reported(table: int) -> pd.DataFrame:
    """Numbers of one of the paper's tables, 1 to 4.

    Returns:
        Columns ``dataset, method``, the paper's six metrics and ``source``, in the paper's order.
    """
    return pd.read_csv(PAPER_TABLES / f"table{table}.csv", float_precision="round_trip")


def title_of(name: str) -> str:
    """What tables and figures call a method; what nobody knows keeps its name."""
    return METHODS[name].title if name in METHODS else TITLES.get(name, name)


def rivals_printed() -> list[str]:
    """The methods that the paper compares its own with, in its order."""
    return [name for name in read_reported(1)["method"].unique() if name != OURS]


def result_folders() -> dict[str, Path]:
    """Method → its folder below `results_root`, sorted by name; empty if there is none.

    Raises:
        DatasetError: ``$FUSIONLIB_RESULTS`` is no folder; or one in it has a name of `OWN`.
    """
    root = results_root()
    if not root.is_dir():
        if os.environ.get("FUSIONLIB_RESULTS"):
            raise DatasetError(f"FUSIONLIB_RESULTS: {root} is no folder")
        return {}
    folders = (p for p in sorted(root.iterdir()) if p.is_dir() and not p.name.startswith("."))
    found = {folder.name: folder for folder in folders}
    for name in OWN:
        if name in found:
            raise DatasetError(f"{found[name]}: the name of this method itself; rename the folder")
    return found
