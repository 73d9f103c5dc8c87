import base64
import json
import re
import shutil
import subprocess
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from report.pages import EVIL, read_page

from lure.errors import InputError
from lure.metrics.hits import pack_hits
from lure.report.numbers import page_data
from lure.report.page import write_page
from lure.report.page_comparison import TERMS as COMPARISON_TERMS
from lure.report.page_kept import TERMS as KEPT_TERMS
from lure.report.price import price_sentence
from lure.report.records import read_run
from lure.report.verdict import verdict

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def make_evaluation(accuracy, correct, fingerprint="test-set"):
    """What `evaluate` says, in the small."""
    curve = [{"epsilon": 0.0, "accuracy": accuracy}, {"epsilon": 0.1, "accuracy": accuracy / 2}]
    attack = {"attack": "pgd", "norm": "linf", "steps": 20, "restarts": 1, "examples": 8, "curve": curve}
    points = [{"severity": s, "accuracy": accuracy - 0.05 * s} for s in range(1, 6)]
    kinds = {
        kind: {"synthetic": kind == "frost", "severities": points, "mean_accuracy": accuracy - 0.15}
        for kind in ("fog", "frost")
    }
    return {
        "examples": 8,
        "accuracy": accuracy,
        "class_balanced_accuracy": accuracy,
        "negative_log_likelihood": 0.7,
        "brier_score": 0.3,
        "expected_calibration_error": 0.123,
        "reliability": [{"low": 0.6, "high": 0.7, "examples": 8, "confidence": 0.65, "accuracy": accuracy}],
        "per_class": [
            {"label": 0, "name": "bag & <b>", "examples": 5, "accuracy": 0.8, "predicted": 4, "precision": 1.0},
            {"label": 1, "examples": 3, "accuracy": 1.0, "predicted": 4, "precision": 0.75},
        ],
        "correct": pack_hits(torch.tensor(correct, dtype=torch.bool)),
        "data_fingerprint": fingerprint,
        "temperature_scaling": {"temperature": 1.7, "validation_examples": 4, "expected_calibration_error": 0.05},
        "corruptions": {"kinds": kinds, "mean_corruption_accuracy": accuracy - 0.1, "relative_accuracy": 0.8},
        "adversarial": {
            "pgd": {
                "linf": attack | {"warning": "accuracy did not fall"},
                "l2": attack | {"norm": "l2", "warning": None},
            }
        },
        "change": {
            "paired_test": {"only_first_right": 3, "only_second_right": 1, "changed_side": 4, "p_value": 0.625},
            "per_class": [
                {"label": 0, "examples": 5, "became_right": 3, "became_wrong": 1, "changed_answer": 4},
                {"label": 1, "examples": 3, "became_right": 0, "became_wrong": 0, "changed_answer": 0},
            ],
            "weights": [],
        },
    }


@pytest.fixture
def runs(write_run):
    directories = []
    for policy, value in (("warm-start", 0.6), ("scratch", 0.7), ("lure", 0.72)):
        for seed in range(2):
            forgotten = {"layers.0.weight": 0.31, "head.weight": 0.0} if policy == "lure" else {}
            directory = write_run(policy, seed, [value - 0.1, value + 0.01 * seed], forgotten=forgotten)
            directories.append(directory)
    return [read_run(directory) for directory in directories]


@pytest.fixture
def evaluated(runs):
    for run in runs:
        if run.policy != "warm-start":
            correct = [1, 1, 1, 1, 0, 0, 1, 0] if run.policy == "lure" else [1, 1, 0, 0, 0, 1, 1, 0]
            result = make_evaluation(0.6 + 0.1 * run.seed, correct)
            (run.directory / "evaluations").mkdir()
            (run.directory / "evaluations" / "0002.json").write_text(json.dumps(result))
    return [read_run(run.directory) for run in runs]


def test_the_page_is_self_contained_and_whole(evaluated, tmp_path):
    text, loads = read_page(evaluated, tmp_path / "page.html")
    assert loads
    assert all(load.startswith("data:image/svg+xml;base64,") for load in loads)
    pictures = [base64.b64decode(load.removeprefix("data:image/svg+xml;base64,")).decode() for load in loads]
    assert ">lure</text>" in pictures[0]
    assert all("</svg>" in picture for picture in pictures)
    content = (tmp_path / "page.html").read_text()
    assert "<script" not in content
    assert "url(" not in content
    assert "//" not in re.sub('base64,[^"]*', "", content)
    assert 'name="viewport"' in content
    for heading in (
        "Which policy", "Example by example", "Can its confidence be believed?", "Natural corruptions", "Attacks",
        "What was forgotten where", "Class by class, against the version before", "What was run",
    ):  # fmt: skip
        assert heading in text


def test_the_page_shows_what_was_chosen_where_something_was(runs, write_run, tmp_path):
    text, _ = read_page(runs, tmp_path / "page.html")
    assert "What was chosen" not in text
    choices = [
        {"candidate": "version in use", "taken": False, "examples_read": 200},
        {"candidate": "shrink-perturb:shrink=0.62:perturb=0.095", "taken": True, "loss": 1.1},
        {"candidate": EVIL, "taken": False, "loss": 1.24},
    ]
    directory = write_run("auto", 0, [0.6, 0.7], choices=choices)
    text, loads = read_page([*runs, read_run(directory)], tmp_path / "page.html")
    assert all(load.startswith("data:image/svg+xml;base64,") for load in loads)
    chosen = text.partition("What was chosen")[2].partition("What was forgotten where")[0]
    assert "first seed" in chosen
    assert "lure" not in chosen
    said = f"2 shrink-perturb:shrink=0.62:perturb=0.095 (validation loss 1.10 after a probe; {EVIL} 1.24)"
    assert said in chosen
    lines = page_data([read_run(directory)])["groups"][0]["policies"]["auto"]["runs"][0]["stages"]
    assert [line["choices"] for line in lines] == [choices, choices]


def test_the_page_shows_the_numbers(evaluated, tmp_path):
    text, _ = read_page(evaluated, tmp_path / "page.html")
    assert verdict(evaluated) in text
    for shown in (
        "60.5±0.7",  # warm start: 60 and 61
        "-10.0",  # from scratch: 70 and 71
        "1.70",  # temperature
        "50.0±7.1",  # fog: 45 and 55
        "frost (synthetic)",
        "accuracy did not fall",
        "31.0",  # forgotten
        "+40.0",  # (3 - 1) / 5 of a class
        "p = 0.625",
        "lure run demo --unlearner lure --seed 1",
        "torch 2.13.0",
        "fashion-mnist-sample",
        "augment none",
    ):
        assert shown in text, shown


def test_a_temperature_that_nothing_determines_is_said_in_words(evaluated, tmp_path):
    text, _ = read_page(evaluated, tmp_path / "page.html")
    assert "determine" not in text
    scaled = evaluated[-1].last_evaluation["temperature_scaling"]
    scaled |= {"temperature": 1.0, "undetermined": "every example is right"}
    text, _ = read_page(evaluated, tmp_path / "page.html")
    assert "it is 1, for one seed at least: lure (every example is right)." in text


def test_names_are_escaped(evaluated, tmp_path):
    text, _ = read_page(evaluated, tmp_path / "page.html")
    assert "bag & <b>" in text
    assert "bag &amp; &lt;b&gt;" in (tmp_path / "page.html").read_text()


def test_no_string_from_a_file_becomes_markup(write_run, tmp_path):
    """Every name and sentence that a file can bring is hostile; none of them opens a tag or leaves an attribute."""
    recipe = {f'"field{EVIL}"': f"value{EVIL}"}
    recipe |= {name: f"{name}{EVIL}" for name in ("dataset", "model", "replay", "optimizer")}
    directories = []
    for number, policy in enumerate(("lure", f"own{EVIL}")):
        directory = write_run(
            policy,
            0,
            [0.5, 0.6 + 0.1 * number],
            name=f"run{number}{EVIL}",
            recipe=recipe,
            forgotten={f"layer{EVIL}": 0.3},
            accepted=number == 0,
        )
        result = make_evaluation(0.6, [1, 1, 0, 0, 0, 1, 1, number])
        corruptions, attack = result["corruptions"], result["adversarial"]["pgd"]["linf"]
        corruptions["kinds"][f"fog{EVIL}"] = corruptions["kinds"].pop("fog")
        attack["warning"] = f"warned{EVIL}"
        result["per_class"][0]["name"] = f"bag{EVIL}"
        result["change"]["weights"] = [{"name": f"tensor{EVIL}", "relative_distance": 0.1, "cosine": 0.9}]
        (directory / "evaluations").mkdir()
        (directory / "evaluations" / "0002.json").write_text(json.dumps(result))
        written = json.loads((directory / "result.json").read_text())
        names = ("torch_version", "device", "command", f"odd{EVIL}_version")
        (directory / "result.json").write_text(json.dumps(written | {name: f"{name}{EVIL}" for name in names}))
        directories.append(directory)
    directories.append(write_run("scratch", 0, [0.5], name=f"short{EVIL}", recipe=recipe))
    directories.append(write_run("lure", 0, [0.5, 0.6], recipe=recipe | {f'"other{EVIL}"': f"differs{EVIL}"}))
    text, loads = read_page([read_run(directory) for directory in directories], tmp_path / "page.html")
    content = (tmp_path / "page.html").read_text()
    assert "<img src=x" not in content
    assert len(re.findall("<img ", content)) == len(loads)
    assert all(load.startswith("data:image/svg+xml;base64,") for load in loads)
    for place in (
        *(
            "own",
            "fog",
            "warned",
            "bag",
            "layer",
            "tensor",
            "field",
            "value",
            "dataset",
            "model",
            "replay",
            "optimizer",
        ),
        *("run0", "short", "torch_version", "device", "command", "odd", "other", "differs"),
    ):
        assert f"{place}{EVIL}" in text, place
    assert f"run1{EVIL}: the gate refused version 1, 2" in text


def test_what_was_not_measured_has_no_section(runs, tmp_path):
    text, loads = read_page([run for run in runs if run.policy != "lure"], tmp_path / "page.html")
    assert len(loads) == 2
    for heading in (
        "Example by example",
        "Can its confidence",
        "corruptions",
        "Attacks",
        "forgotten",
        "Class by class",
    ):
        assert heading not in text


def test_without_a_test_set_the_costs_are_shown(write_run, tmp_path):
    text, loads = read_page([read_run(write_run("lure", 0, [None]))], tmp_path / "page.html")
    assert loads == []
    assert "1T" in text


@pytest.fixture
def priced(write_budgets):
    """Return make(recipe) -> two policies at two budgets, over three seeds."""
    accuracies = {"scratch": (0.6, 0.7), "lure": (0.7, 0.6)}
    return lambda recipe=None: write_budgets(accuracies, recipe, forgotten={"head.weight": 0.2})


def test_the_answer_comes_first_then_its_table_and_picture(priced, tmp_path):
    text, loads = read_page(priced(), tmp_path / "page.html")
    places = [
        text.index(words)
        for words in (
            "What it costs to stay current",
            price_sentence(priced()),
            "points from retraining",
            "In the shaded region",
            "The whole recipe stands at the end",
            verdict(priced()),
            "lure, budget 0.1",
            "What follows shows each policy at the budget of its price",
            "Accuracy on the test set after each stage",
            "Terms",
        )
    ]
    assert places == sorted(places)
    assert "lure ★ 10 % 0.1 10 +0.0 -0.2 to +0.2 yes" in text
    assert "cheaper and not worse" in base64.b64decode(loads[0].partition(",")[2]).decode()
    assert len(loads) == 2


def test_details_are_those_of_one_budget_each(priced, tmp_path):
    text, _ = read_page(priced(), tmp_path / "page.html")
    details = text.partition("What was forgotten where")[2].partition("What was run")[0]
    assert "lure, budget 0.1" in details
    assert "scratch" in details
    assert "scratch, budget 0.1" not in details
    assert "lure, budget 0.1 , seed 2" in text.partition("What was run")[2]


def test_terms_are_those_of_the_glossary(priced, tmp_path):
    text, _ = read_page(priced(), tmp_path / "page.html")
    glossary = Path("docs/glossary.md").read_text(encoding="utf-8")
    assert {"price", "retraining", "budget", "regret"} <= COMPARISON_TERMS.keys()
    for name, meaning in COMPARISON_TERMS.items():
        assert f"{name} {meaning}" in text
    for name, meaning in (COMPARISON_TERMS | KEPT_TERMS).items():
        assert f"| **{name}** | {meaning} |" in glossary


def test_the_winner_is_marked_and_comes_first(priced, tmp_path):
    write_page(priced(), tmp_path / "page.html")
    content = (tmp_path / "page.html").read_text()
    rows = re.findall(r'<tr class="won">.*?</tr>', content)
    assert len(rows) == 2  # in the table of prices, and in that of all measures
    assert all("lure" in row and "★" in row for row in rows)
    assert content.index(rows[0]) < content.index("scratch</span>")
    text, _ = read_page(priced(), tmp_path / "page.html")
    assert text.index("lure, budget 0.1 ★") < text.index("lure, budget 1 3") < text.index("scratch, budget 0.1 3")


def test_where_nothing_is_decided_nothing_wins_and_the_most_accurate_comes_first(runs, tmp_path):
    text, _ = read_page([run for run in runs if run.seed == 0], tmp_path / "page.html")
    assert "★" not in text
    measures = text.partition("The whole recipe")[2]
    assert measures.index("lure 1") < measures.index("scratch 1") < measures.index("warm-start 1")


def test_one_policy_is_not_compared(runs, tmp_path):
    text, _ = read_page([run for run in runs if run.policy == "lure"], tmp_path / "page.html")
    assert "What one policy did lure ends at an accuracy of 72.5 % (mean of 2 seeds)." in text
    assert "nothing to compare" not in text
    assert "There is no price" not in text


def test_each_policy_has_its_mark_in_tables(runs, tmp_path):
    write_page(runs, tmp_path / "page.html")
    content = (tmp_path / "page.html").read_text()
    marks = set(re.findall(r'<path d="([^"]*)" stroke="(#[0-9A-F]{6})" fill="#', content))
    assert {shade for _, shade in marks} == {"#4D4D4D", "#0072B2", "#E69F00"}
    assert len(marks) == 3


def test_settings_are_compared_before_all_else(priced, tmp_path):
    runs = [*priced(), *priced({"epochs": 3})]
    text, _ = read_page(runs, tmp_path / "page.html")
    prices = "scratch 100 % / 0.0 100 % / 0.0 lure ★ 10 % / 0.0 ★ 10 % / 0.0"
    assert f"Price and regret in each setting policy epochs = 20 epochs = 3 {prices}" in text
    assert text.index("Price and regret") < text.index("is the cheapest that is not worse than retraining")


def test_what_has_no_price_says_what_to_add(runs, tmp_path):
    text, _ = read_page(runs, tmp_path / "page.html")
    assert "Nothing was tried that is cheaper than retraining: add smaller budgets (--budgets 0.1,0.3,1)." in text
    text, _ = read_page([run for run in runs if run.policy != "scratch"], tmp_path / "page.html")
    assert "add scratch at budget 1" in text
    assert "points from retraining" not in text


def test_recipes_stand_apart(runs, write_run, tmp_path):
    other = read_run(write_run("lure", 0, [0.4, 0.5], recipe={"epochs": 3}))
    text, loads = read_page([*runs, other], tmp_path / "page.html")
    assert "2 different recipes, which differ in epochs" in text
    assert "epochs = 20" in text
    assert "epochs = 3" in text
    assert len(loads) == 3  # accuracy against cost shows nothing of a single policy
    data = page_data([*runs, other])
    assert [group["differing_fields"] for group in data["groups"]] == [["epochs"], ["epochs"]]
    assert data["groups"][0]["policies"]["lure"]["measures"]["final_accuracy"]["seeds"] == 2


def test_the_same_runs_give_the_same_page(runs, tmp_path):
    write_page(runs, tmp_path / "a.html")
    write_page(runs, tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_an_impossible_file_is_refused(runs, tmp_path):
    with pytest.raises(InputError, match="cannot write the page"):
        write_page(runs, tmp_path / "nowhere" / "page.html")


def test_the_numbers(evaluated):
    (group,) = page_data(evaluated)["groups"]
    policies = group["policies"]
    assert policies["lure"]["seeds"] == [0, 1]
    assert policies["lure"]["measures"]["final_accuracy"]["mean"] == pytest.approx(0.725)
    assert policies["lure"]["difference_from_scratch"]["mean_difference"] == pytest.approx(0.02)
    assert policies["scratch"]["difference_from_scratch"] is None
    assert policies["warm-start"]["evaluation"] is None
    assert [row["stage"] for row in policies["lure"]["over_stages"]] == [1, 2]
    assert policies["lure"]["over_stages"][1]["cumulative_flops"]["mean"] == pytest.approx(3e12 + 2e9)
    assert [policies[name]["on_pareto_front"] for name in ("warm-start", "scratch", "lure")] == [False, False, True]
    assert group["verdict"] == verdict(evaluated)


def test_evaluations_are_merged_over_seeds(evaluated):
    merged = page_data(evaluated)["groups"][0]["policies"]["lure"]["evaluation"]
    assert merged["accuracy"]["mean"] == pytest.approx(0.65)
    assert not {"correct", "change", "data_fingerprint"} & set(merged)
    point = merged["corruptions"]["kinds"]["fog"]["severities"][4]
    assert point["severity"] == 5
    assert point["accuracy"]["mean"] == pytest.approx(0.4)
    assert merged["corruptions"]["kinds"]["frost"]["synthetic"] is True
    row = merged["adversarial"]["pgd"]["linf"]["curve"][1]
    assert row["epsilon"] == 0.1
    assert row["accuracy"] == {
        "mean": pytest.approx(0.325),
        "standard_deviation": pytest.approx(0.05 / 2**0.5),
        "seeds": 2,
    }
    assert merged["reliability"][0]["examples"] == 16
    assert merged["reliability"][0]["accuracy"] == pytest.approx(0.65)


def test_policies_are_paired_example_by_example(evaluated):
    tests = page_data(evaluated)["groups"][0]["paired_tests"]
    assert [(test["seed"], test["first"], test["second"]) for test in tests] == [
        (0, "scratch", "lure"),
        (1, "scratch", "lure"),
    ]
    assert (tests[0]["only_first_right"], tests[0]["only_second_right"]) == (1, 2)


def test_one_seed_is_judged_example_by_example(evaluated):
    first = [run for run in evaluated if run.seed == 0]
    assert "3 test examples are right under only one of lure and scratch (exact McNemar test, p = 1)" in verdict(first)


def test_several_seeds_are_judged_example_by_example_too(evaluated):
    said = verdict([run for run in evaluated if run.policy != "warm-start"])
    assert said.endswith(
        "Seed by seed, 3 test examples are right under only one of lure and scratch (exact McNemar test, p = 1)."
    )


def test_the_paired_table_says_how_many_changed_side(evaluated, tmp_path):
    text, _ = read_page(evaluated, tmp_path / "page.html")
    assert re.search(r"changed side p scratch / +lure 0 1 2 3 1\.000", text)


def test_tables_have_a_row_for_each_policy_where_those_are_more_than_the_rows(runs, change_ledger, tmp_path):
    page = tmp_path / "page.html"
    write_page(runs, page)
    content = page.read_text()
    assert "<th>parameter</th>" in content  # one policy, one tensor
    share = {"layers.0.weight": 0.5}
    for run in runs:
        change_ledger(run.directory, lambda lines: [line | {"forgotten": line["forgotten"] or share} for line in lines])
    write_page([read_run(run.directory) for run in runs], page)
    content = page.read_text()
    assert "<th>parameter</th>" not in content
    assert "<th><code>layers.0.weight</code></th>" in content


def test_other_test_sets_are_not_paired(evaluated):
    file = evaluated[-1].directory / "evaluations" / "0002.json"
    file.write_text(json.dumps(make_evaluation(0.7, [1] * 8, fingerprint="another")))
    tests = page_data([read_run(run.directory) for run in evaluated])["groups"][0]["paired_tests"]
    assert [test["seed"] for test in tests] == [0]


def test_only_the_newest_version_stands_for_a_run(evaluated):
    for run in evaluated:
        if run.evaluations:
            (run.directory / "evaluations" / "0002.json").rename(run.directory / "evaluations" / "0001.json")
    data = page_data([read_run(run.directory) for run in evaluated])["groups"][0]
    assert data["policies"]["lure"]["evaluation"] is None
    assert data["policies"]["lure"]["runs"][0]["evaluations"]["1"]["accuracy"] == 0.6


def test_the_numbers_are_json(evaluated, write_run):
    odd = read_run(write_run("dash", 0, [0.5, 0.6], negative_log_likelihood=float("inf")))
    data = page_data([*evaluated, odd])
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["groups"][0]["policies"]["dash"]["runs"][0]["stages"][0]["negative_log_likelihood"] is None


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed, so the page is not rendered")
@pytest.mark.parametrize("width", [500, 1280])
def test_a_browser_renders_it(evaluated, tmp_path, width):
    write_page(evaluated, tmp_path / "page.html")
    picture = tmp_path / "page.png"
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--hide-scrollbars"]
    subprocess.run(
        [
            BROWSER,
            "--headless",
            *flags,
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},2600",
            f"--screenshot={picture}",
            (tmp_path / "page.html").as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    pixels = np.rint(255 * matplotlib.image.imread(picture)[..., :3]).astype(int)
    assert pixels.shape[1] == width
    shades = {tuple(shade) for shade in np.unique(pixels.reshape(-1, 3), axis=0)}
    assert (0x00, 0x72, 0xB2) in shades  # the colour of lure
    assert (0xE6, 0x9F, 0x00) in shades  # the colour of warm-start
    inked = (pixels < 200).any(axis=2)
    assert inked[:, : width // 2].any()
    # Nothing sticks out: wide tables scroll in their own frames, so the margin stays white.
    assert not inked[:, -8:].any()
