from functools import partial

import matplotlib.image
import numpy as np
import pytest

from lure.errors import InputError
from lure.report.comparison import group_runs, pareto_front
from lure.report.plots import draw_cost, paint, plot_accuracy_over_stages, plot_price, spread_apart
from lure.report.records import read_run


def plot_accuracy_against_cost(runs, file):
    """Draw as the page does, but all groups in one picture."""
    paint([(group.label, partial(draw_cost, group)) for group in group_runs(runs)], file)


WITHOUT_RETRAINING = [plot_accuracy_over_stages, plot_accuracy_against_cost]
PLOTS = [*WITHOUT_RETRAINING, plot_price]


@pytest.fixture
def runs(write_run):
    return [
        read_run(write_run(policy, seed, [value - 0.1, value + 0.01 * seed]))
        for policy, value in (("scratch", 0.7), ("lure", 0.7), ("lure:forget_fraction=0.3", 0.7), ("mine", 0.8))
        for seed in range(2)
    ]


def colours(file):
    pixels = np.rint(255 * matplotlib.image.imread(file)[..., :3]).astype(int).reshape(-1, 3)
    return {f"#{r:02X}{g:02X}{b:02X}" for r, g, b in np.unique(pixels, axis=0)}


@pytest.mark.parametrize("plot", PLOTS)
def test_each_policy_is_drawn_in_its_colour(plot, runs, tmp_path):
    plot(runs, tmp_path / "plot.png")
    assert {"#4D4D4D", "#0072B2"} <= colours(tmp_path / "plot.png")
    assert "#D55E00" not in colours(tmp_path / "plot.png")


@pytest.mark.parametrize("plot", PLOTS)
def test_names_stand_in_the_picture(plot, runs, tmp_path):
    plot(runs, tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    for name in ("scratch", "lure", "lure:forget_fraction=0.3", "mine"):
        assert f">{name}</text>" in text


@pytest.mark.parametrize("plot", PLOTS)
def test_the_same_runs_give_the_same_file(plot, runs, tmp_path):
    plot(runs, tmp_path / "a.svg")
    plot(runs, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("plot", WITHOUT_RETRAINING)
def test_recipes_have_panels_of_their_own(plot, runs, write_run, tmp_path):
    plot(runs, tmp_path / "one.png")
    plot([*runs, read_run(write_run("lure", 0, [0.4, 0.5], recipe={"epochs": 3}))], tmp_path / "two.png")
    one, two = (matplotlib.image.imread(tmp_path / name) for name in ("one.png", "two.png"))
    assert two.shape[1] == 2 * one.shape[1]


@pytest.mark.parametrize("plot", WITHOUT_RETRAINING)
def test_one_run_of_one_stage_can_be_drawn(plot, write_run, tmp_path):
    plot([read_run(write_run("lure", 0, [0.5], train_flops=0, unlearn_flops=0))], tmp_path / "plot.svg")
    assert ">lure</text>" in (tmp_path / "plot.svg").read_text()


def test_without_flops_the_cost_is_seconds(write_run, tmp_path):
    plot_accuracy_against_cost(
        [read_run(write_run("lure", 0, [0.5], train_flops=0, unlearn_flops=0))], tmp_path / "plot.svg"
    )
    assert "seconds of all stages" in (tmp_path / "plot.svg").read_text()


@pytest.mark.parametrize("plot", WITHOUT_RETRAINING)
def test_without_a_test_set_there_is_nothing_to_draw(plot, write_run, tmp_path):
    with pytest.raises(InputError, match="no test set"):
        plot([read_run(write_run("lure", 0, [None]))], tmp_path / "plot.png")


def test_an_impossible_file_is_refused(runs, tmp_path):
    with pytest.raises(InputError, match="cannot write the picture"):
        plot_accuracy_over_stages(runs, tmp_path / "nowhere" / "plot.png")
    with pytest.raises(InputError, match="cannot write the picture"):
        plot_accuracy_over_stages(runs, tmp_path / "plot.doc")


def test_the_front_is_what_nothing_beats():
    points = [(1, 0.4), (1, 0.5), (2, 0.5), (2, 0.6), (3, 0.55), (4, 0.9), (4, 0.9)]
    front = pareto_front(points)
    assert front == [(1, 0.5), (2, 0.6), (4, 0.9)]
    for cost, value in points:
        beaten = any((c <= cost and v > value) or (c < cost and v >= value) for c, v in points)
        assert beaten == ((cost, value) not in front)


def test_labels_are_spread_apart_evenly_and_in_order():
    assert spread_apart([5, 5, 5], [1, 1, 1]) == [4, 5, 6]
    moved = spread_apart([3.0, 0.0, 0.2, 3.5, 9.0], [1.0] * 5)
    assert moved == pytest.approx([2.75, -0.4, 0.6, 3.75, 9.0])


def test_high_labels_take_more_room():
    assert spread_apart([5, 5], [1, 3]) == [4, 6]
    assert spread_apart([5, 5], [3, 1]) == [4, 6]


def test_no_label_lies_below_the_floor():
    assert spread_apart([0, 0, 9], [2, 2, 2], floor=0) == [1, 3, 9]
    assert spread_apart([0, 0, 3.5], [2, 2, 2], floor=0) == pytest.approx([1, 3, 5])


@pytest.mark.parametrize("plot", PLOTS)
def test_long_names_are_not_cut_off(plot, write_run, tmp_path):
    long = "dash:alpha=0:shrink_floor=0:biases=false"
    policies = ["scratch", "lure", long, f"{long}:per_kernel=true", "shrink-perturb:shrink=0.2:perturb=0.8"]
    runs = [read_run(write_run(policy, seed, [0.5, 0.7 + 0.01 * seed])) for policy in policies for seed in (0, 1)]
    plot(runs, tmp_path / "plot.png")
    inked = (matplotlib.image.imread(tmp_path / "plot.png")[..., :3] < 0.9).any(axis=2)
    assert not inked[:, :2].any()
    assert not inked[:, -2:].any()


def test_an_svg_names_a_font_that_every_reader_has(runs, tmp_path):
    plot_accuracy_over_stages(runs, tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    assert "sans-serif" in text


def test_many_lines_have_no_bars(write_run, tmp_path):
    def bars(count):
        runs = [read_run(write_run(f"mine{n}", seed, [0.5, 0.6 + 0.1 * seed])) for n in range(count) for seed in (0, 1)]
        plot_accuracy_over_stages(runs, tmp_path / "plot.svg")
        text = (tmp_path / "plot.svg").read_text()
        return text.count("LineCollection"), "standard deviation" in text

    assert bars(8) == (8, True)
    assert bars(9) == (0, False)


@pytest.fixture
def budgets(write_budgets):
    return write_budgets({"scratch": (0.6, 0.7), "lure": (0.7, 0.6), "mine": (0.62, 0.65)})


def test_the_price_is_drawn_with_its_region_and_retraining(budgets, tmp_path):
    assert plot_price(budgets, tmp_path / "price.png")
    assert {"#DDF0E4", "#0072B2", "#4D4D4D"} <= colours(tmp_path / "price.png")
    plot_price(budgets, tmp_path / "price.svg")
    text = (tmp_path / "price.svg").read_text()
    for words in ("cheaper and not worse", "retraining", "scratch", "lure", "mine", "% of retraining's FLOPs", "100"):
        assert words in text, words
    assert text.count(">lure</text>") == 1  # one line over its budgets


def test_the_price_on_a_phone_has_no_name_cut_off(budgets, tmp_path):
    plot_price(budgets, tmp_path / "price.png")
    pixels = matplotlib.image.imread(tmp_path / "price.png")[..., :3]
    assert pixels.shape[1] == 840  # so letters of ten points are nearly ten pixels high where it is shown 390 wide
    assert not (pixels[:, -2:] < 0.9).any()


def test_prices_in_several_settings_have_a_panel_and_a_scale_each(budgets, write_run, tmp_path):
    others = [
        read_run(write_run(policy, seed, [0.1, 0.2 + 0.01 * seed], recipe={"epochs": 3}))
        for policy in ("scratch", "lure")
        for seed in range(3)
    ]
    plot_price([*budgets, *others], tmp_path / "price.png")
    pixels = np.rint(255 * matplotlib.image.imread(tmp_path / "price.png")[..., :3]).astype(int)
    green = (pixels == (0xDD, 0xF0, 0xE4)).all(axis=2)
    assert pixels.shape[1] == 2 * 840
    assert green[:, :840].sum() > 9000
    assert green[:, 840:].sum() > 9000


def test_without_retraining_no_price_is_drawn(budgets, tmp_path):
    assert not plot_price([run for run in budgets if run.policy != "scratch"], tmp_path / "price.png")
    assert not list(tmp_path.glob("*.png"))


def test_over_stages_each_policy_is_drawn_at_the_budget_of_its_price(budgets, tmp_path):
    plot_accuracy_over_stages(budgets, tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    assert ">lure, budget 0.1</text>" in text
    assert ">scratch</text>" in text
    assert ">mine</text>" in text
    assert text.count("budget") == 1
