"""The start of the command line, also as ``python -m impasto``: so small that Ctrl-C at any moment
ends it quietly.
"""

from __future__ import annotations


def main() -> None:
    """Run ``impasto.cli.main``; exits with 130 where Ctrl-C comes before it is there."""
    try:
        from impasto.cli import main as run
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    run()


if __name__ == "__main__":
    main()
