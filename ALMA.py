"""The warm-started baseline of the LURE paper: `python ALMA.py --help`. What its flags mean: `lure.cli.released`."""

from lure.cli.released import main

if __name__ == "__main__":
    raise SystemExit(main("ALMA.py"))
