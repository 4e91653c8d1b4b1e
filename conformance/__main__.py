"""``python -m xp_xent.conformance``: the part of the command ``xp-xent`` that judges."""

import sys


def main() -> None:
    """Run the command, or say what it needs."""
    try:
        from xp_xent.conformance import _cli
    except ImportError as error:
        sys.exit(f'{error}: the command needs pip install "xp_xent[cli]"')
    _cli.main()


if __name__ == "__main__":
    main()
