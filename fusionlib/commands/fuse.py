"""``fusionlib fuse``: two images, two folders, a list of pairs, or two videos."""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from fusionlib import __version__
from fusionlib.commands.options import (
    COUNT,
    PRECISIONS,
    add_flags,
    add_levels,
    add_model,
    add_reading,
    check_device,
    chosen_levels,
    counted,
    is_readable,
    pairs_of,
)
from fusionlib.errors import FusionError, PairError
from fusionlib.files import write_atomically

RECORD = "fused.json"
VIDEOS = (".mp4", ".mkv", ".mov", ".m4v", ".avi", ".webm", ".mpg", ".mpeg", ".ts", ".wmv")
EXAMPLES = """examples:
  fusionlib fuse ir.png vi.jpg -o fused.png
  fusionlib fuse thermal/ colour/ -o fused/ --ir-range auto     raw 16-bit counts
  fusionlib fuse thermal.mp4 colour.mp4 -o fused.mp4            needs fusionlib[video]
"""


def add(commands) -> None:
    """Add ``fuse`` to the command line."""
    fuse = commands.add_parser(
        "fuse",
        help="fuse two images, two folders or two videos",
        usage="fusionlib fuse IR VI -o OUT [options]  or  fuse --pairs LIST -o OUT [options]",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    fuse.set_defaults(command=_fuse)
    fuse.add_argument("ir", nargs="?", type=Path, metavar="IR", help="image, folder or video")
    visible = "the same; in folders names pair up, as 1 with 1 or IR_1 with VIS_1"
    fuse.add_argument("vi", nargs="?", type=Path, metavar="VI", help=visible)
    fuse.add_argument("-o", "--out", type=Path, required=True, help="image, folder or video")
    listed = "CSV with columns ir, vi and perhaps name, instead of two folders"
    fuse.add_argument("--pairs", type=Path, metavar="LIST", help=listed)
    add_levels(fuse.add_argument_group("levels and sizes"))
    run = fuse.add_argument_group("the run")
    add_reading(run)
    flags = {"--skip-existing": "go on in OUT; refused if fused.json there has other options"}
    add_flags(run, flags | {"--grey": "write the fused luma without colour"})
    network = fuse.add_argument_group("the network")
    network.add_argument("--weights", type=Path, metavar="FILE", help="default: the shipped ones")
    add_model(network, "that of the weights")
    network.add_argument(
        "--threads", type=COUNT, metavar="N", help="on the CPU; default: one a core"
    )
    faster = "bf16 is faster with AVX-512 BF16, AMX or a GPU; may move pixels by a grey level"
    network.add_argument("--precision", default="fp32", choices=PRECISIONS, help=faster)


def _fuse(options: argparse.Namespace) -> None:
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    sides = [options.ir, options.vi]
    if (None in sides) != bool(options.pairs) or (options.pairs and any(sides)):
        raise PairError("expected IR and VI, or --pairs with a list of them")
    if options.pairs or all(side.is_dir() for side in sides):
        return _fuse_folders(options)
    if options.skip_existing:
        raise FusionError("--skip-existing is for folders")
    videos = {side.suffix.lower() in VIDEOS for side in sides}
    if any(side.is_dir() for side in sides) or len(videos) > 1:
        raise PairError(f"{sides[0]} and {sides[1]}: expected two images, folders or videos")
    return _fuse_videos(options) if True in videos else _fuse_images(options)


def _fuse_images(options: argparse.Namespace) -> None:
    from fusionlib.images import check_target
    from fusionlib.inference import fuse_files
    from fusionlib.pairing import Pair

    out, issues = check_target(options.out), []
    pairs = [Pair("", out.stem, options.ir, options.vi)]
    reading = chosen_levels(options, pairs)
    fuser = _load(options)
    given = {"suffix": out.suffix, "grey": options.grey, **reading}
    list(fuse_files(fuser, pairs, out.parent, issues, **given))
    _report(str(out), issues, fuser)


def _fuse_videos(options: argparse.Namespace) -> None:
    from fusionlib.video import fuse_videos

    for side in ("ir", "vi"):
        if "auto" in (getattr(options, f"{side}_range") or ()):
            raise FusionError(f"--{side}-range auto is for images; of videos say LOW and HIGH")
    reading = chosen_levels(options, ())
    fuser = _load(options)
    issues = fuse_videos(fuser, options.ir, options.vi, options.out, grey=options.grey, **reading)
    _report(str(options.out), issues, fuser)


def _fuse_folders(options: argparse.Namespace) -> None:
    from fusionlib.checks import write_issues
    from fusionlib.inference import fuse_files

    out, (pairs, issues) = options.out, _find_pairs(options)
    reading = chosen_levels(options, pairs)
    fuser = _load(options)
    record = _record(fuser, options.grey, reading)
    done = _done(out / RECORD, record, pairs) if options.skip_existing else None
    given = {"grey": options.grey, "done": done or (), "on_bad": options.on_bad, **reading}
    fused = fuse_files(fuser, pairs, out, issues, **given)
    if done is None:  # first, so that a folder that is not complete says what made it
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / RECORD, f"{json.dumps(record, indent=1)}\n".encode())
    try:
        count = len(list(fused))
    except FusionError:
        if done is None and not any(out.glob("*.png")):  # an error leaves nothing
            (out / RECORD).unlink()
            with suppress(OSError):  # other files
                out.rmdir()
        raise
    write_issues(out / "issues.csv", issues)
    there = f" ({len(done)} of them were there)" if done else ""
    _report(f"{count} of {counted(len(pairs), 'image')} in {out}{there}", issues, fuser)
    if not count:
        raise PairError(f"nothing was fused: {out / 'issues.csv'} has the reasons")


def _find_pairs(options: argparse.Namespace) -> tuple[list, list]:
    """Pairs of two folders or of a list, and what was left out."""
    from fusionlib.checks import Issue

    how = {"follow_links": options.follow_links, "on_bad": options.on_bad, "left_out": []}
    paths = [options.pairs] if options.pairs else [options.ir, options.vi]
    pairs, left_out = pairs_of(paths, **how), how["left_out"]
    if options.out.exists():
        for folder in {path.parent for pair in pairs for path in (pair.ir, pair.vi)}:
            if folder.is_dir() and options.out.samefile(folder):
                raise FusionError(f"-o {options.out} is the folder of source images {folder}")
        if not options.out.is_dir():
            raise FusionError(f"-o {options.out} is a file; expected a folder")
    return pairs, [Issue("", p.name, "left out", f"{p}: {reason}") for p, reason in left_out]


def _load(options: argparse.Namespace):
    from fusionlib.inference import load_fuser, reuse_memory

    reuse_memory()
    device = check_device(options.device)
    return load_fuser(options.weights, options.encoder, device, options.precision)


def _record(fuser, grey: bool, reading: dict[str, object]) -> dict[str, object]:
    """What decides the pixels, as fused.json has it."""
    import torch

    on_cpu = fuser.device.type == "cpu"
    record = {
        "weights": fuser.weights.path.name,
        "sha256": fuser.weights.sha256,
        "encoder": fuser.encoder.name,
        "precision": fuser.precision,
        "grey": grey,
        **{name: value for name, value in reading.items() if name != "max_pixels"},
        "version": __version__,
        "device": fuser.device.type,
        "threads": torch.get_num_threads() if on_cpu else None,  # move the last bit
    }
    return json.loads(json.dumps(record))


def _done(path: Path, record: dict[str, object], pairs: Sequence) -> set[Path] | None:
    """Results of an earlier run with the same record, or None if nothing is there.

    Raises:
        FusionError: results are there that something else made.
    """
    targets = {path.with_name(f"{pair.name}.png"): pair for pair in pairs}
    there = [target for target in targets if target.is_file()]
    if not there:
        return None
    try:
        old = dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise FusionError(f"--skip-existing: no {path} says what made {there[0]}") from None
    except (OSError, ValueError, TypeError) as error:
        raise FusionError(f"{path}: cannot be read as a record ({error})") from error
    names = [name for name in record | old if name != "weights"]  # that file's name may change
    both = {name: (old.get(name), record.get(name)) for name in names}
    other = [f"{name} was {was}, is {now}" for name, (was, now) in both.items() if was != now]
    if other:
        raise FusionError(
            f"--skip-existing: {path} differs: {'; '.join(other)}. Give the options of that run, "
            f"or another folder, or leave out --skip-existing"
        )

    began = path.stat().st_mtime_ns  # what is older, a run with other options has left

    def is_result(target: Path) -> bool:
        pair = targets[target]
        changed = [side.stat().st_mtime_ns for side in (pair.ir, pair.vi) if side.exists()]
        is_newest = target.stat().st_mtime_ns >= max(began, *changed)
        # a copy of the folder may have been cut off
        return is_newest and is_readable(target, None, max_pixels=sys.maxsize)

    return {target for target in there if is_result(target)}


def _report(what: str, issues: list, fuser) -> None:
    """Issues on stderr, ten of a kind (issues.csv has all), and the last line."""
    from fusionlib.pairing import LISTED

    for status in dict.fromkeys(issue.status for issue in issues):
        of = [issue for issue in issues if issue.status == status]
        for issue in of[:LISTED]:
            print(f"{status}: {issue.name or 'all'}: {issue.detail}", file=sys.stderr)
        if more := len(of[LISTED:]):
            print(f"{status}: {more} more", file=sys.stderr)
    print(f"{what}: weights {fuser.weights.path.name}, encoder {fuser.encoder.title}")
