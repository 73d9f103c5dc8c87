from lure.report.colours import FIXED, OTHER_COLOURS, OTHER_MARKS, colour, line_styles
from lure.unlearners import UNLEARNERS


def test_every_registered_policy_has_a_colour_of_its_own():
    assert list(FIXED) == list(UNLEARNERS)  # reports, which read no method, take the order of their tables from here
    shades = [shade for shade, _ in FIXED.values()]
    assert len(set(shades)) == len(shades)


def luminance(shade):
    values = [int(shade[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_stand_out_from_white_paper():
    shades = [*OTHER_COLOURS, *(shade for shade, _ in FIXED.values())]
    assert all(1.05 / (luminance(shade) + 0.05) > 2 for shade in shades)


def test_options_do_not_change_the_colour_but_the_line():
    assert colour("dash:alpha=0.1") == colour("dash")
    styles = line_styles(["dash", "dash:alpha=0.1", "lure"])
    assert styles["dash"] != styles["dash:alpha=0.1"]
    assert styles["dash"] == styles["lure"]


def test_a_policy_of_a_user_keeps_its_colour():
    pairs = [colour(name) for name in ("mine", "yours", "my_package.reset")]
    assert pairs == [colour(f"{name}, budget 0.1") for name in ("mine", "yours", "my_package.reset")]
    assert [(OTHER_COLOURS.index(shade), OTHER_MARKS.index(mark)) for shade, mark in pairs] == [(7, 3), (6, 2), (2, 4)]


def test_no_policy_of_a_user_has_the_colour_of_a_method():
    assert len({*OTHER_COLOURS} | {shade for shade, _ in FIXED.values()}) == len(OTHER_COLOURS) + len(FIXED)


def test_budgets_do_not_change_colour():
    assert colour("lure, budget 0.1") == FIXED["lure"]
    assert line_styles(["lure, budget 0.1", "lure:sample=all"]) == {"lure, budget 0.1": "-", "lure:sample=all": "--"}


def test_a_method_itself_is_solid_in_whatever_order_its_settings_come():
    assert line_styles(["lure:sample=all", "lure"]) == {"lure": "-", "lure:sample=all": "--"}
