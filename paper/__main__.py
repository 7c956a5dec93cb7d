"""``python -m paper``: the notebooks in order, their results, the report; or ``--verify``."""

import argparse
import sys
from pathlib import Path

from fusionlib.__main__ import run_command
from fusionlib.commands.options import add_data_root, add_flags, add_model, check_device
from fusionlib.encoder import EMBEDDED
from fusionlib.errors import FusionError
from fusionlib.files import IS_CHECKOUT


def main(arguments: list[str] | None = None) -> int:
    """Run the notebooks; returns the exit status (0, 2 for an error that is explained, 130)."""
    paper = argparse.ArgumentParser(
        prog="python -m paper", description="Run the notebooks of the paper in order."
    )
    paper.set_defaults(command=_paper)
    paper.add_argument("--preset", default="quick", choices=["quick", "cpu", "paper"])
    add_data_root(paper)
    paper.add_argument("--weights", type=Path, help="weights file to evaluate")
    paper.add_argument("--seed", type=int, default=0)
    paper.add_argument("--only", nargs="+", metavar="NOTEBOOK", help="such as 05_compare")
    kind = "replace the committed figures/ and tables/ of this kind by the results"
    add_flags(paper, {
        "--force": "repeat steps that are up to date",
        "--publish": f"for maintainers: {kind}",
        "--verify": "run nothing; compare the committed tables with their values, and results "
        "with records",
    })  # fmt: skip
    add_model(paper, "embedded")
    return run_command(paper, arguments)


def _paper(options: argparse.Namespace) -> None:
    if not IS_CHECKOUT:
        raise FusionError("the notebooks are not in the package: clone the repository, make paper")
    if options.verify:
        return _verify()
    from fusionlib.weights import load_weights
    from paper.agreement import compare_run
    from paper.pipeline import complete_steps, run_paper
    from paper.provenance import publish
    from paper.report import REFERENCE, read_verdict, write_report
    from paper.run import open_run

    check_device(options.device)
    given = {name: getattr(options, name) for name in ("data_root", "weights", "device", "seed")}
    given["encoder"] = options.encoder or EMBEDDED
    steps = run_paper(options.preset, **given, only=options.only, force=options.force)
    run = open_run(options.preset, **given, out_dir=Path("runs") / options.preset)
    agreement = compare_run(run)
    report = write_report(run, complete_steps(steps), agreement)  # of --only and of earlier runs
    weights = load_weights(run.weights)
    if verdict := read_verdict(REFERENCE):
        print(f"\ncommitted reference run: {verdict['sentence']}")
    print(
        f"\ndata     {run.data_title} (from {run.root})"
        f"\nencoder  {weights.encoder_title}"
        f"\nweights  {run.weights}, {weights.steps} steps, sha256 {weights.sha256[:12]}"
        f"\nwritten  {run.out_dir}: figures, tables, notebooks, fused images, report"
        f"\nreport   {report}"
        f"\n\nagreement with the committed results:\n" + "\n".join(agreement)
    )
    if options.publish:
        published = publish(run, [step.name for step in steps])
        print(f"published: {len(published)} files below figures/ and tables/")


def _verify() -> None:
    """Compare committed tables with their values, and every committed result with its record."""
    from paper.provenance import problems
    from paper.verify import verify_tables

    count, wrong = verify_tables()
    wrong += problems()
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        raise FusionError(f"{len(wrong)} problems (listed above) with the committed results")
    print(f"{count} numbers of the committed tables computed again and found equal")
    print("every committed figure and table has a record, and is as new as its inputs")


if __name__ == "__main__":
    sys.exit(main())
