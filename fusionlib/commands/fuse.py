"""``fusionlib fuse``: two files, or two folders."""

import argparse
import json
import sys
from pathlib import Path

from fusionlib.commands.options import (
    PRECISIONS,
    add_flags,
    add_model,
    add_reading,
    check_device,
)
from fusionlib.errors import PairError
from fusionlib.files import write_atomically


def add(commands) -> None:
    """Add ``fuse`` to the command line."""
    fuse = commands.add_parser("fuse", help="fuse two files or two folders")
    fuse.set_defaults(command=_fuse)
    fuse.add_argument("ir", type=Path, help="infrared image, or a folder of them")
    fuse.add_argument("vi", type=Path, help="visible image, or a folder with the same names")
    fuse.add_argument("-o", "--out", type=Path, required=True, help="image, or folder for folders")
    fuse.add_argument("--resize", choices=["ir-to-vi"], help="scale infrared of another size")
    levels = "grey levels of a 16-bit or float infrared image that become black and white"
    fuse.add_argument("--ir-range", nargs=2, type=float, metavar=("LOW", "HIGH"), help=levels)
    fuse.add_argument("--ir-rgb", choices=["luma"], help="take the luma of pseudo-colour infrared")
    add_flags(fuse, {"--grey": "write the fused luma without colour"})
    add_reading(fuse)
    add_model(fuse, "the one the weights were trained with")
    fuse.add_argument("--weights", type=Path, help="weights file (default: the shipped ones)")
    faster = "bf16 is faster with AVX-512 BF16, AMX or a GPU, and may move pixels by a grey level"
    fuse.add_argument("--precision", default="fp32", choices=PRECISIONS, help=faster)


def _fuse(options: argparse.Namespace) -> None:
    from fusionlib import checks, images, inference
    from fusionlib.datasets import Pair, pair_folders

    if options.ir.is_dir() != options.vi.is_dir():
        raise PairError(f"{options.ir} and {options.vi}: expected two files or two folders")
    folders = options.ir.is_dir()
    pairs = (
        pair_folders(options.ir, options.vi, follow_links=options.follow_links)
        if folders
        else [Pair("", options.out.stem, options.ir, options.vi)]
    )
    if not pairs:
        raise PairError(f"{options.ir} has no images")
    if not folders:
        images.check_target(options.out)
    device = check_device(options.device)
    reading = {
        "resize": options.resize,
        "ir_range": tuple(options.ir_range) if options.ir_range else None,
        "ir_rgb": options.ir_rgb or "grey",
    }
    on_bad = options.on_bad if folders else "error"
    good, issues = checks.inspect_pairs(pairs, on_bad=on_bad, **reading)
    fuser = inference.load_fuser(options.weights, options.encoder, device, options.precision)
    if folders:
        written = inference.fuse_files(fuser, good, options.out, grey=options.grey, **reading)
        what = f"{len(list(written))} of {len(pairs)} images in {options.out}"
        checks.write_issues(options.out / "issues.csv", issues)
        used = {
            "weights": fuser.weights.path.name,
            "sha256": fuser.weights.sha256,
            "encoder": fuser.encoder.name,
            "precision": fuser.precision,
            "grey": options.grey,
            **reading,
        }
        write_atomically(options.out / "fused.json", f"{json.dumps(used, indent=1)}\n".encode())
    else:
        fused = inference.fuse_pair(fuser, good[0], grey=options.grey, **reading)
        what = str(images.save_image(options.out, fused))
    for issue in issues:
        print(f"{issue.status}: {issue.name or 'all'}: {issue.detail}", file=sys.stderr)
    print(f"{what}: weights {fuser.weights.path.name}, encoder {fuser.encoder.title}")
