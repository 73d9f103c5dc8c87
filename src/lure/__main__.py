"""`python -m lure` is the command `lure`."""

from lure.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
