"""The command of the LURE paper: `python LURE_main.py --help`. What its flags mean: `lure.cli_released`."""

from lure.cli_released import main

if __name__ == "__main__":
    raise SystemExit(main("LURE_main.py"))
