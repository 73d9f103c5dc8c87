"""The protocol of the suite, version 1, as data: what judges, what it judges, and how the judged settings were found.

docs/suite.md says it in words. A change to anything here but a further row of `JUDGED` is another version.
"""

from lure.recipe import Policy

VERSION = 1
BUDGETS, CHOOSING_BUDGETS, ABLATION_BUDGETS = (0.1, 0.2, 0.4, 1.0), (0.2,), (0.2, 1.0)
SEEDS, CHOOSING_SEEDS = (0, 1, 2, 3, 4), (100, 101)

JUDGING = (
    "fashion-mnist",
    "fashion-mnist-noise",
    "fashion-mnist-20",
    "fashion-mnist-transformer",
    "mnist-imbalanced",
    "cifar10",
    "cifar10-augmented",
    "cifar10-buffer",
)
CHOOSING = ("choose-mnist-noise", "choose-mnist-transformer", "choose-cifar10", "choose-cifar10-augmented")
ABLATED = ("fashion-mnist-noise", "cifar10")

# Every rival has at most six settings to choose from. Taken is the first within a twentieth of a point of the
# lowest mean regret over the choosing settings.
SEARCH = {
    "scratch": ("scratch",),
    "warm-start": ("warm-start",),
    "lure": ("lure", *(f"lure:forget_fraction={share}" for share in (0.1, 0.4, 0.6, 0.8, 0.95))),
    "shrink-perturb": (
        "shrink-perturb",
        "shrink-perturb:shrink=0.2:perturb=0.8",
        "shrink-perturb:shrink=0.6",
        "shrink-perturb:shrink=0.8",
        "shrink-perturb:shrink=0.6:perturb=0.4",
        "shrink-perturb:shrink=0.3:perturb=0.001",
    ),
    "dash": (
        "dash:ema=chunk",
        "dash:shrink_floor=0.05:shuffled=256",
        "dash:ema=none",
        "dash:ema=none:shrink_floor=0.05",
        "dash:shrink_floor=0.05:ema=chunk",
        "dash:shrink_floor=0.6:shuffled=256",
    ),
    "fire": ("fire", "fire:start=frobenius"),
    "distill": (
        "distill-0.5=unlearner=warm-start regularizers=ema,distill:strength=0.5",
        "distill-1=unlearner=warm-start regularizers=ema,distill",
        "distill-2=unlearner=warm-start regularizers=ema,distill:strength=2",
        "distill-1-t2=unlearner=warm-start regularizers=ema,distill:temperature=2",
    ),
    "l2-init": (
        "l2-init-2=unlearner=warm-start regularizers=ema,l2-init:strength=0.01",
        "l2-init-3=unlearner=warm-start regularizers=ema,l2-init:strength=0.001",
    ),
    "head-reset": ("head-reset",),
    "later-layers": ("later-layers",),
    "redo": ("redo",),
}
# What the search found, in the words of SEARCH; a test compares it with the ledgers.
CHOSEN = {
    "lure": "lure",
    "shrink-perturb": "shrink-perturb:shrink=0.8",
    "dash": "dash:shrink_floor=0.6:shuffled=256",
    "fire": "fire:start=frobenius",
    "distill": SEARCH["distill"][0],
    "l2-init": SEARCH["l2-init"][1],
}
# The released code's differences from its description, but for those that concern the order of the data, and the rate
# of 0.1 after the first mega-batch, which no optimiser but its own stands.
AS_RELEASED = (
    "lure-as-released=unlearner=lure:scope=released:law=kaiming-uniform:sample=all:sample_size=100:ties=all "
    "sample_augmented=true validation_augmented=true carry_optimizer=true carry_as_released=true"
)
# A row of one's own is one more line here.
JUDGED = tuple(
    dict.fromkeys(
        (
            "scratch",
            "warm-start",
            "lure",
            AS_RELEASED,
            *CHOSEN.values(),
            "fire",
            "auto",
            # Level with `auto` while that was designed; added to the judged after these settings had been seen.
            "auto-l2-init=unlearner=auto regularizers=ema,l2-init:strength=0.001",
        )
    )
)
# LURE taken apart; what each row is stands beside it.
ABLATIONS = {
    "scratch": "everything redrawn",
    "warm-start": "nothing redrawn",
    "lure": "the least salient fifth, by the new data",
    AS_RELEASED: "as the released code does it",
    **{f"lure:forget_fraction={share}": f"{100 * share:g} % redrawn" for share in (0.05, 0.1, 0.4, 0.6, 0.8, 0.95)},
    "lure:sample=all": "saliency by all data",
    "lure:sample=all:sample_size=900": "saliency by the oldest mega-batch",
    "lure-most-salient=unlearner=suite_ablations:MostSalient": "the most salient fifth",
    "random-reset": "a random fifth",
    "magnitude-reset": "the fifth of the smallest weights",
    "fisher-reset": "the fifth of least Fisher information",
    "lure:scope=weights:law=kaiming-uniform:sample=new:sample_size=none:ties=random": "the released law of redrawing",
    "lure-momentum=unlearner=lure carry_optimizer=true": "the optimiser's state kept, but for redrawn weights",
    "lure-momentum-kept=unlearner=lure carry_optimizer=true carry_as_released=true": "the optimiser's state kept",
    "lure-statistics=unlearner=suite_ablations:WithoutStatistics": "the statistics of BatchNorm reset",
}
# Part -> settings, policies, seeds, budgets, and what the folders of results begin with.
PARTS = {
    "choose": (CHOOSING, sum(SEARCH.values(), ()), CHOOSING_SEEDS, CHOOSING_BUDGETS, ""),
    "judge": (JUDGING, JUDGED, SEEDS, BUDGETS, ""),
    "ablate": (ABLATED, tuple(ABLATIONS), SEEDS, ABLATION_BUDGETS, "ablation-"),
}


def name_of(text: str) -> str:
    """Return the name of a policy that is given as on the command line.

    Example:
        >>> name_of("distill-1=unlearner=warm-start regularizers=ema,distill"), name_of("dash:ema=none")
        ('distill-1', 'dash:ema=none')
    """
    return Policy.read(text).name
