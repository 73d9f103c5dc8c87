"""What stands in a block of a page runs: every `lure` command, made short, in its order, and every Python program.

Pages whose programs need more than that have a test of their own, and lines of other tools are run by other tests; both
are named here, so that no block is left out unseen.
"""

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from miniatures import write_cifar10_binary

from lure.cli import main
from lure.cli.commands import build_parser
from lure.training.regularizers import REGULARIZERS

ROOT = Path(__file__).parent.parent
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted([*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md"), ROOT / "results" / "README.md"])
}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# Pages with a test of their own for a kind of block.
ELSEWHERE = {
    ("README.md", "python"): "tests/test_readme.py",
    ("docs/evaluation.md", "python"): "tests/report/test_evaluation_document.py",
    ("docs/operations.md", "bash"): "tests/cli/test_operations.py",
    ("docs/operations.md", "python"): "tests/cli/test_operations.py",
    ("docs/scaling.md", "python"): "tests/test_pages_run.py",  # below: it needs Ray and a cluster, or their stand-ins
    ("docs/regularizers.md", "python"): "tests/training/test_regularizer_page.py",
    ("docs/unlearners.md", "python"): "tests/unlearners/test_document.py",
}
# Lines that are run, or kept true, by other tests: how they begin, or what they hold.
OTHER_LINES = {
    r"^make ": "tests/test_readme.py",
    r"^pip install ": "tests/test_pages_run.py",  # below: that the files exist
    r"^python (LURE_main|ALMA)\.py ": "tests/cli/test_paper_commands.py",
    r"^python benchmarks/": "tests/test_pages_run.py",  # below: that program and flags exist; they take hours
    r"^(torchrun|accelerate launch) ": "tests/test_distributed.py",
    r" --engine (slurm|ray) ": "tests/experiment/test_engines.py",
    r" --download$": "tests/data/sources/test_download.py",
}
# What makes a command short; later flags win. A page's command is otherwise run as it stands.
STREAM = "--epochs 1 --threads 1 --train-limit 100 --test-limit 50 --mega-batch-size 25 --num-mega-batches 2"
SHORT = {
    "run": STREAM,
    "compare": f"{STREAM} --seeds 0 --jobs 1 --device cpu",
    "init": "--model mlp --epochs 10 --threads 1",
}
NARROW = "--model resnet18:width=4"
FEW = "--unlearners warm-start,scratch"  # where a page leaves the choice to the command
# What a page takes for granted: commands that come before one of its own.
BEFORE = {
    "lure rollback model 3": ["lure update model chunk-2.npz", "lure update model chunk-3.npz"],
    "lure update DIR DATA --regularizers my_package.my_module:SmallLogits:strength=0.1,ema": [
        "lure init DIR --holdout FILE.npz --regularizers my_package.my_module:SmallLogits:strength=0.1,ema"
    ],
}


def blocks(page: str, *kinds: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(PAGES[page]) if kind in kinds]


def lines(page: str) -> list[str]:
    """The command lines of a page without their comments."""
    if (page, "bash") in ELSEWHERE:
        return []
    programs = [block for block in blocks(page, "bash", "") if not block.startswith("#!")]
    return [re.split(r"\s+#", line)[0] for block in programs for line in block.splitlines() if line]


def commands(page: str) -> list[str]:
    return [line for line in lines(page) if not any(re.search(pattern, line) for pattern in OTHER_LINES)]


def save(path: Path, seed: int, count: int = 150) -> None:
    generator, labels = np.random.default_rng(seed), np.arange(count) % 3
    np.savez(path, inputs=(6 * np.eye(4)[labels] + generator.normal(size=(count, 4))).astype(np.float32), labels=labels)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with what the pages name; DIR and DATA are what `prepare` makes of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "results").symlink_to(ROOT / "results")
    for seed, name in enumerate(("holdout", "chunk", "chunk-2", "chunk-3", "new", "FILE")):
        save(tmp_path / f"{name}.npz", seed)
    rows = [f"c{n},name {n},2026-01-{n % 28 + 1:02},{n % 7},{('no', 'yes')[n % 2]}" for n in range(60)]
    (tmp_path / "holdout.csv").write_text("\n".join(["customer,name,joined,visits,left", *rows, ""]))
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "my_package"]:
        del sys.modules[name]
    REGULARIZERS.pop("small-logits", None)


def prepare(page: str, place: Path) -> None:
    """Lay DIR, DATA and the module of the reader's own where the page has them."""
    if page == "README.md":
        (place / "DIR").mkdir()
        for seed, name in enumerate(("train", "test")):
            save(place / "DIR" / f"{name}.npz", seed)
        write_cifar10_binary(place / "DATA", 20)
    elif page in ("docs/data.md", "docs/results.md"):
        write_cifar10_binary(place / "DIR", 20)
    elif page in ("docs/paper.md", "docs/scaling.md"):
        write_cifar10_binary(place / "DATA", 20)
    else:
        save(place / "DATA.npz", 7)
    (place / "my_package").mkdir()
    programs = [text for text in blocks(page, "python") if "check_settings(self)" in text]
    own = "\n".join(re.split(r"\n\n\n(?=\S)(?!class|@)", program)[0] for program in programs)
    (place / "my_package" / "my_module.py").write_text(f"import lure\nimport torch\n{own}\n")


@pytest.mark.filterwarnings("ignore")  # of tiny data: what a command says of them is not what is tested
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_the_commands_of_a_page_run(page: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(page, place)
    for command in [each for line in commands(page) for each in (*BEFORE.get(line, ()), line)]:
        words = [
            f"{word}.npz" if Path(f"{word}.npz").exists() and not Path(word).exists() else word
            for word in shlex.split(command)
        ]
        assert words[0] == "lure", f"{page}: no test runs the line {command!r}"
        short = SHORT.get(words[1], "")
        if words[1] in ("run", "compare") and "cifar10" in command:
            short += f" {NARROW}"
            if words[1] == "compare":
                short += " --budgets 1" + ("" if "--unlearners" in command else f" {FEW}")
        assert main([*words[1:], *shlex.split(short)]) == 0, (command, capsys.readouterr().err)


@pytest.mark.filterwarnings("ignore")  # the trainers of others warn of their own parts
@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python") and (page, "python") not in ELSEWHERE]
)
def test_the_programs_of_a_page_run(page: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if page == "docs/text.md":
        pytest.importorskip("transformers")
    if page == "docs/pandas.md":
        pytest.importorskip("pandas")
        assert main(shlex.split(lines(page)[0])[1:]) == 0
    names: dict[str, Any] = {"__name__": "page"}
    for number, program in enumerate(blocks(page, "python")):
        exec(compile(program, f"{page}, program {number + 1}", "exec"), names)
    assert capsys.readouterr().out


def test_the_program_for_ray_runs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for Ray that calls the worker's function once; the data are small, the folder ours."""
    trainer = SimpleNamespace(TorchTrainer=lambda train, scaling_config: SimpleNamespace(fit=train))
    for name, module in (
        ("ray", SimpleNamespace()),
        ("ray.train", SimpleNamespace(ScalingConfig=dict)),
        ("ray.train.torch", trainer),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    write_cifar10_binary(place / "shared" / "data", 20)
    small = {"model": "resnet18:width=4", "epochs": 1, "threads": 1, "num_mega_batches": 2, "mega_batch_size": 20}
    (program,) = blocks("docs/scaling.md", "python")
    for said, here in (('"/shared/', '"shared/'), ('"cifar10"', f'"cifar10", {small}'), ('"auto"', '"cpu"')):
        assert said in program
        program = program.replace(said, here)
    exec(compile(program, "docs/scaling.md", "exec"), {})
    assert (place / "shared" / "runs" / "big" / "result.json").exists()


@pytest.mark.parametrize("page", [page for page in PAGES if "\n```yaml\n" in PAGES[page]])
def test_commands_in_yaml_parse(page: str) -> None:
    found = [command for text in blocks(page, "yaml") for command in re.findall(r'"(lure [^"]*)"', text)]
    assert found
    for command in found:
        assert build_parser().parse_all(shlex.split(command)[1:]).command


def test_commands_in_sentences_are_commands_with_such_flags(capsys: pytest.CaptureFixture[str]) -> None:
    known: dict[str, str] = {}
    for page in PAGES.keys() - {"CHANGELOG.md"}:
        for name, rest in re.findall(r"`lure ([a-z]+)\b([^`]*)`", BLOCK.sub("", PAGES[page])):
            if name not in known:
                with pytest.raises(SystemExit, match=r"^0$"):
                    main([name, "--help"])
                known[name] = capsys.readouterr().out
            for flag in re.findall(r"(?<=\s)--[a-z-]+", rest):
                assert re.search(rf"{flag}\b", known[name]), (page, name, flag)


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_scripts_are_shell() -> None:
    scripts = [text for page in PAGES for text in blocks(page, "bash") if text.startswith("#!")]
    assert scripts
    for script in scripts:
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize("notebook", sorted((ROOT / "docs" / "notebooks").glob("*.py")), ids=lambda path: path.stem)
def test_a_notebook_runs(notebook: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib
    from matplotlib import pyplot as plt

    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    matplotlib.use("Agg")
    from generated_pages import executed

    text, figures = executed(notebook)
    assert text.startswith("# ")
    assert text.count("\n```text\n") >= 3
    assert [name for name in figures if name in text] == list(figures) != []
    assert all(figure.startswith(b"\x89PNG") for figure in figures.values())
    assert not plt.get_fignums()


def test_every_block_is_of_a_kind_that_is_run() -> None:
    for page, text in PAGES.items():
        kinds = {kind for kind, _ in BLOCK.findall(text)}
        assert kinds <= {"bash", "python", "text", "yaml", ""}, page
        assert len(BLOCK.findall(text)) * 2 == len(re.findall(r"^```", text, re.MULTILINE)), page


def test_what_is_run_elsewhere_is() -> None:
    for (page, _), test in ELSEWHERE.items():
        assert page.rpartition("/")[2] in (ROOT / test).read_text(encoding="utf-8"), page
    for test in OTHER_LINES.values():
        assert (ROOT / test).exists(), test


def test_what_pip_is_given_and_benchmarks_exist() -> None:
    for line in [line for page in PAGES for line in lines(page)]:
        if line.startswith("pip install "):
            assert all((ROOT / name).exists() for name in re.findall(r"\S+\.txt", line)), line
        elif line.startswith("python benchmarks/"):
            program = (ROOT / line.split()[1]).read_text(encoding="utf-8")
            assert all(f'"{flag}"' in program for flag in re.findall(r"--[\w-]+", line)), line
