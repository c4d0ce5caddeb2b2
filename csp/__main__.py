"""The one program, `csp` and `python -m csp`, of all packages' commands.

Exit codes: 0, 2 wrong input, 3 something missing on the machine, 130 interrupted.
"""

from __future__ import annotations

import sys

import typer

from benchmarks.cli import app as benchmark_app
from csp.cli.labellers import app as labellers_app
from csp.cli.library import app as library_app
from csp.cli.models import app as models_app
from csp.cli.predict import app as predict_app
from csp.cli.progress import console
from csp.cli.train import app as train_app
from csp.device import keep_freed_memory
from csp.errors import CspError
from flows.cli import app as flows_app

__all__ = ["app", "main"]

app = typer.Typer(
    name="csp",
    help="Crystal structure prediction from a chemical formula alone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(predict_app)
app.add_typer(flows_app)
app.add_typer(library_app, name="library")
app.add_typer(benchmark_app, name="benchmark")
app.add_typer(train_app, name="train")
app.add_typer(models_app, name="models")
app.add_typer(labellers_app, name="labellers")


def main() -> None:
    """Entry point of `csp`."""
    keep_freed_memory()
    try:
        app()
    except CspError as error:
        console.print(f"[bold red]csp:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
