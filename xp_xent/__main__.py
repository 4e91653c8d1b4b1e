"""The command ``xp-xent``, also ``python -m xp_xent``; needs the extra ``cli``."""

import sys
from typing import Any


def command() -> Any:
    """Put the commands of the sub-packages together."""
    import typer

    from xp_xent.benchmarks._cli import bench
    from xp_xent.conformance._cli import conformance
    from xp_xent.verify._cli import backends, diagnose, loss
    from xp_xent.verify._command import verify

    app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)
    app.callback()(root)
    for one in (backends, verify, diagnose, loss, conformance, bench):
        app.command()(one)
    return app


def root() -> None:
    """Compute, check, judge and measure cross-entropy losses."""


def main() -> None:
    """Run the command, or say what it needs."""
    try:
        app = command()
    except ImportError as error:
        sys.exit(f'{error}: the command needs pip install "xp_xent[cli]"')
    app()


if __name__ == "__main__":
    main()
