"""The command ``xp-xent``, also ``python -m xp_xent``; needs the extra ``cli``."""

import sys
from typing import Any


def command() -> Any:
    """Put the commands of the sub-packages together."""
    from xp_xent.benchmarks._cli import bench
    from xp_xent.conformance._cli import app

    app.command()(bench)
    return app


def main() -> None:
    """Run the command, or say what it needs."""
    try:
        app = command()
    except ImportError as error:
        sys.exit(f'{error}: the command needs pip install "xp_xent[cli]"')
    app()


if __name__ == "__main__":
    main()
