"""The gate: every rule at its edge."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lure.cli import main
from lure.errors import InputError
from lure.learner.gate import Decision, EarlierVersion, Gate, decide, warn_of_chance
from lure.learner.production import status


def hits(right: int, wrong: int, offset: int = 0) -> Tensor:
    """The first `offset` wrong, then `right` right, the rest wrong."""
    return torch.tensor([False] * offset + [True] * right + [False] * (wrong - offset))


def judge(correct: Tensor, current: Tensor, best: Tensor | None = None, **rules: float) -> Decision:
    rival = EarlierVersion(version=5, correct=current)
    top = rival if best is None else EarlierVersion(version=3, correct=best)
    return decide(Gate(**rules), correct, rival, top, [0.9, 0.4, None], 0.2)


def test_the_first_version_passes_whatever_the_rules() -> None:
    gate = Gate(minimum_accuracy=0.9, minimum_class_accuracy=0.9, maximum_calibration_error=0.0)
    decision = decide(gate, hits(1, 99), None, None, [0.0], 1.0)
    assert decision.accepted
    assert decision.reasons == decision.comparisons == ()


def test_significantly_worse_than_the_current_one_is_refused() -> None:
    # Five lost and none won: p = 1/32 < 0.05; four: p = 1/16.
    assert not judge(hits(895, 105), hits(900, 100)).accepted
    assert judge(hits(896, 104), hits(900, 100)).accepted
    assert judge(hits(895, 105), hits(900, 100), significance=0.03).accepted
    decision = judge(hits(895, 105), hits(900, 100))
    assert decision.reasons == (
        "significantly worse than version 5 on the holdout: 5 examples lost, 0 won (p = 0.031, limit 0.05)",
    )
    assert (decision.comparisons[0].lost, decision.comparisons[0].won) == (5, 0)
    assert decision.comparisons[0].p_value == 1 / 32


def test_significantly_better_is_never_refused() -> None:
    decision = judge(hits(930, 70), hits(900, 100))
    assert decision.accepted
    assert decision.comparisons[0].p_value == 1


def test_significantly_worse_than_the_best_is_refused_though_the_current_one_is_matched() -> None:
    decision = judge(hits(893, 107), hits(895, 105), best=hits(900, 100))
    assert [comparison.version for comparison in decision.comparisons] == [5, 3]
    assert [reason.split(" on ")[0] for reason in decision.reasons] == ["significantly worse than version 3"]


def test_small_losses_do_not_add_up_past_the_margin() -> None:
    # Every example that changes side costs little here, but the total falls: only the margin catches it.
    current = hits(500, 500, offset=250)
    new = torch.cat([~current[:490], current[490:]])  # 490 examples change side, 240 lost and 250 won
    assert judge(new, current).accepted
    best = hits(522, 478, offset=200)
    decision = judge(new, current, best=best, significance=0.0)
    assert not decision.accepted
    assert decision.reasons == (
        "accuracy 0.5100 is more than 0.01 below the 0.5220 of version 3, the best of its line",
    )


@pytest.mark.parametrize("count", [100, 300, 700, 1000, 10_000])
def test_a_fall_of_exactly_the_margin_passes_and_one_example_more_does_not(count: int) -> None:
    allowed = round(0.01 * count)
    old = hits(count // 2, count - count // 2)
    for fall, accepted in ((allowed, True), (allowed + 1, False)):
        new = hits(count // 2 - fall, count - count // 2 + fall)
        assert judge(new, old, significance=0.0).accepted is accepted


def test_further_rules_refuse_and_say_why() -> None:
    same = hits(700, 300)
    assert judge(same, same, minimum_accuracy=0.7).accepted
    assert judge(same, same, minimum_accuracy=0.71).reasons == ("accuracy 0.7000 is below the minimum of 0.71",)
    assert judge(same, same, minimum_class_accuracy=0.4).accepted
    assert judge(same, same, minimum_class_accuracy=0.5).reasons == (
        "accuracy 0.4000 of class 1 is below the floor of 0.5",
    )
    assert judge(same, same, maximum_calibration_error=0.2).accepted
    assert judge(same, same, maximum_calibration_error=0.1).reasons == (
        "expected calibration error 0.2000 is above the maximum of 0.1",
    )


def test_negative_flips_are_refused_though_as_many_examples_are_won() -> None:
    old = hits(500, 500)
    new = torch.cat([~old[:20], old[20:990], ~old[990:]])  # 20 lost, 10 won
    assert judge(new, old, significance=0.0, max_negative_flips=0.02).accepted
    decision = judge(new, old, significance=0.0, max_negative_flips=0.019)
    assert decision.reasons == (
        "20 of 1000 examples that version 5 had right are wrong now: negative flips of 0.0200 are above the maximum of "
        "0.019",
    )


def test_a_version_is_compared_on_what_the_earlier_one_was_judged_on() -> None:
    """The last 50 examples are of a class that version 5 does not know, and the new version has all of them wrong."""
    among = torch.arange(150) < 100
    rival = EarlierVersion(version=5, correct=hits(90, 10), among=among)
    same = torch.cat([hits(90, 10), hits(0, 50)])
    rules = Gate(minimum_accuracy=0.85)
    decision = decide(rules, same, rival, rival, [0.9], 0.0, among)
    assert decision.accepted
    assert (decision.comparisons[0].lost, decision.comparisons[0].accuracy) == (0, 0.9)
    flattered = torch.cat([hits(70, 30), hits(50, 0)])  # better on the whole, and worse on what was there before
    decision = decide(rules, flattered, rival, rival, [0.7], 0.0, among)
    assert decision.reasons[1:] == (
        "accuracy 0.7000 is more than 0.01 below the 0.9000 of version 5, the best of its line",
        "accuracy 0.7000 is below the minimum of 0.85",
    )


def test_all_reasons_are_given() -> None:
    decision = judge(hits(600, 400), hits(700, 300), minimum_accuracy=0.65, maximum_calibration_error=0.1)
    assert len(decision.reasons) == 4
    assert decision.as_dict()["reasons"] == list(decision.reasons)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"significance": 1.5}, r"significance must lie in \[0, 1\], got 1.5"),
        ({"margin": -0.1}, r"margin must lie in \[0, 1\], got -0.1"),
        ({"minimum_accuracy": "high"}, "minimum_accuracy must be a number, got 'high'"),
        ({"maximum_calibration_error": math.nan}, "maximum_calibration_error must lie in .*, got nan"),
    ],
)
def test_bad_rules_are_refused(rules: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Gate(**rules)


def test_a_version_at_chance_is_accepted_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    numbers = np.random.default_rng(0)
    for name, count in (("holdout", 40), ("chunk", 30)):
        np.savez(f"{name}.npz", inputs=numbers.normal(size=(count, 3)).astype(np.float32), labels=np.arange(count) % 10)
    flags = ["--model", "mlp:width=4", "--epochs", "1", "--lr", "0", "--threads", "1"]
    assert main(["init", "run", "--holdout", "holdout.npz", *flags]) == 0
    assert main(["update", "run", "chunk.npz"]) == 0
    printed = capsys.readouterr().out
    hits = round(40 * status("run")["versions"][0]["accuracy"])
    assert ("does not beat the answer" in printed) == (hits <= 4)
    assert ("warnings" in status("run")["versions"][0]["decision"]) == (hits <= 4)


def test_what_beats_the_most_frequent_class_brings_no_warning() -> None:
    assert warn_of_chance(61, [60, 30, 10], ()) == ()
    assert "always class 0" in warn_of_chance(60, [60, 30, 10], ())[0]
    assert warn_of_chance(10, [10, 0], ()) == ()  # nothing could beat it
