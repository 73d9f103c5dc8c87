"""The command of the LURE paper: `python LURE_main.py --help`. What its flags mean: `lure.cli.released`."""

from lure.cli.released import main

if __name__ == "__main__":
    raise SystemExit(main("LURE_main.py"))
