"""Where each dataset is to be had, and on which terms. Nothing is fetched here."""

from dataclasses import dataclass

from fusionlib.errors import DatasetError


@dataclass(frozen=True)
class Source:
    """Where a dataset is to be had, and on which terms.

    Attributes:
        dataset: a key of `SOURCES`.
        url: archive that a program may fetch; None if there is only a way through a browser.
        sha256: of that archive; None because no owner publishes one. Given, it is enforced.
        page: the owner's page.
        terms: what the owner allows and wants cited.
        how: what to do by hand, as sentences.
    """

    dataset: str
    url: str | None
    sha256: str | None
    page: str
    terms: str
    how: str


_ZIP = "Download the repository as a zip (green button 'Code')."
SOURCES = {
    source.dataset: source
    for source in (
        Source(
            dataset="RoadScene",
            url="https://github.com/hanna-xu/RoadScene/archive/"
            "ab71420f8fc96396eeb97eecf3694909b3feb656.zip",
            sha256=None,
            page="https://github.com/hanna-xu/RoadScene",
            terms="No licence stated; derived from FLIR ADAS video. Cite H. Xu et al., U2Fusion,"
            " TPAMI 2022.",
            how=_ZIP,
        ),
        Source(
            dataset="MSRS",
            url="https://github.com/Linfeng-Tang/MSRS/archive/refs/heads/main.zip",
            sha256=None,
            page="https://github.com/Linfeng-Tang/MSRS",
            terms="No licence stated; derived from MFNet. Cite L. Tang et al., PIAFusion,"
            " Inf. Fusion 2022.",
            how=_ZIP,
        ),
        Source(
            dataset="LLVIP",
            url=None,
            sha256=None,
            page="https://bupt-ai-cz.github.io/LLVIP/",
            terms="Non-commercial use only; cite X. Jia et al., LLVIP, ICCV Workshops 2021; no use"
            " that identifies persons. Terms: 'Term of Use and License.md',"
            " github.com/bupt-ai-cz/LLVIP.",
            how="Agree to the terms on the page and download the registered pairs (LLVIP.zip with"
            " infrared/ and visible/, not the raw data) from Google Drive or Baidu.",
        ),
        Source(
            dataset="M3FD",
            url=None,
            sha256=None,
            page="https://github.com/JinyuanLiu-CV/TarDAL",
            terms="No licence stated for the images. Cite J. Liu et al., TarDAL, CVPR 2022.",
            how="Follow 'Google Drive' or 'Baidu Yun' on the page and download M3FD_Fusion.zip"
            " (300 pairs). M3FD_Detection.zip (4200 pairs) goes into another root: names repeat.",
        ),
        Source(
            dataset="TNO",
            url=None,
            sha256=None,
            page="https://figshare.com/articles/dataset/TNO_Image_Fusion_Dataset/1008029",
            terms="Free for research with credit to the owner (TNO, Soesterberg, The Netherlands);"
            " cite doi:10.6084/m9.figshare.1008029 and A. Toet, Data in Brief 15, 2017.",
            how="Open the page in a browser and click 'Download'.",
        ),
    )
}


def find_source(dataset: str) -> Source:
    """The entry of a dataset in `SOURCES`.

    Raises:
        DatasetError: unknown dataset.
    """
    if dataset not in SOURCES:
        raise DatasetError(f"No dataset {dataset!r}; there are {', '.join(SOURCES)}.")
    return SOURCES[dataset]


def terms(dataset: str) -> str:
    """Terms note of a dataset: what its owner allows, and where it comes from.

    Raises:
        DatasetError: unknown dataset.
    """
    source = find_source(dataset)
    return f"{dataset}: {source.terms}\nFrom {source.page}; nothing of it is re-distributed here.\n"
