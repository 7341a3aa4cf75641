"""`matey report`: one self-contained HTML page of runs and results."""

from pathlib import Path
from typing import Any

from matey.cli import Command


def add_arguments(parser: Any) -> None:
    """What `matey report` takes."""
    parser.add_argument(
        "sources",
        nargs="+",
        type=Path,
        metavar="RUN_OR_RESULTS",
        help="folders that `matey train`, `finetune`, `evaluate` or `study` wrote, a folder of "
        "these, or the name of a model that ships",
    )
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="the page")


def run(options: Any) -> None:
    """Make the page."""
    from matey.report import build

    build(options.sources, options.out)
    size = options.out.stat().st_size / 1e6
    print(f"wrote {options.out} ({size:.1f} MB, self-contained: open it in any browser)")


COMMANDS = {
    "": Command(
        help="one self-contained HTML page of runs and their scores",
        example="matey report runs/a results/ --out report.html",
        add_arguments=add_arguments,
        run=run,
    )
}
