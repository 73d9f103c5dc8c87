"""The pages of the site that nobody writes: of the README, examples, notebooks and docstrings. `make docs` runs this.

mkdocs calls `on_config`, `on_files` and `on_page_markdown` (mkdocs.yml, `hooks`). A new method, example, notebook or
module gets its page, and its place in the navigation, without a line here.
"""

import contextlib
import io
import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
# Files outside of docs/ that are pages: file -> page.
PLACES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "results/README.md": "measured_runs.md",
    "examples": "examples/index.md",
    "results": "measured_runs.md",
}
ORIGINS = {page: file for file, page in PLACES.items() if file.endswith(".md")}
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:)([^)#\s]+)(#[^)\s]*)?\)")


def generated_pages() -> dict[str, str]:
    """Return page -> Markdown for every page but the notebooks, which are executed (`executed`)."""
    pages = {page: (ROOT / file).read_text(encoding="utf-8") for page, file in ORIGINS.items()}
    return pages | example_pages() | method_pages() | reference_pages()


def example_pages() -> dict[str, str]:
    """Return a page for each program in examples/: its docstring, then the program itself."""
    pages, rows = {}, ["# Examples", "", "Short programs to start from. The tests run each as it stands.", ""]
    for path in sorted((ROOT / "examples").glob("*.py")):
        _, about, program = path.read_text(encoding="utf-8").split('"""', 2)
        pages[f"examples/{path.stem}.md"] = f"# {path.name}\n\n{about.strip()}\n\n```python\n{program.strip()}\n```\n"
        rows.append(f"- [{path.name}]({path.stem}.md): {about.split(chr(10))[0]}")
    return {"examples/index.md": "\n".join(rows) + "\n", **pages}


def method_pages() -> dict[str, str]:
    """Return a page for each unlearner and regularizer: how it is chosen, its options, and its file's docstrings."""
    from lure.training.regularizers import REGULARIZERS
    from lure.unlearners import UNLEARNERS

    pages, index = {}, ["# Methods", ""]
    for title, guide, chosen, table in (
        ("Unlearners", "unlearners.md", "--unlearner {name}", UNLEARNERS),
        ("Regularizers", "regularizers.md", "--regularizers {name}", REGULARIZERS),
    ):
        index += [
            f"## {title}",
            "",
            f"Which one: [{title.lower()}](../{guide}).",
            "",
            "| name | what it does |",
            "|---|---|",
        ]
        for name, method in table.items():
            pages[f"methods/{name}.md"] = method_page(name, method, chosen.format(name=name), guide)
            index.append(f"| [`{name}`]({name}.md) | {first_line(method)} |")
        index.append("")
    return {"methods/index.md": "\n".join(index), **pages}


def method_page(name: str, method: Any, chosen: str, guide: str) -> str:
    """Return the page of one method."""
    from lure.settings import describe_options

    lines = [f"# {name}", "", f"Chosen by `{chosen}`; how to choose: [{guide.removesuffix('.md')}](../{guide}).", ""]
    if options := describe_options(method):
        lines += ["| option | default | meaning |", "|---|---|---|"]
        for option in options:
            meaning = "; ".join(filter(None, (option.meaning, option.allowed))).replace("|", "\\|")
            lines.append(f"| `{option.name}` | `{option.default}` | {meaning} |")
        lines.append("")
    lines += [f"- `{preset}` is {meaning}" for preset, meaning in getattr(method, "presets", {}).items()]
    lines += ["", f"::: {method.__module__}", "    options: {show_root_heading: false, show_root_toc_entry: false}", ""]
    return "\n".join(lines)


def first_line(thing: Any) -> str:
    """Return what the docstring's first line says, without a bar, which would end a cell of a table."""
    return (thing.__doc__ or "").strip().split("\n")[0].replace("|", "\\|")


def reference_pages() -> dict[str, str]:
    """Return the public names of `lure`, and a page for each folder with the docstrings of its modules."""
    import lure
    from lure.training.regularizers import REGULARIZERS
    from lure.unlearners import UNLEARNERS

    lines = ["# API reference", "", "What `import lure` gives:", "", "| name | what it is |", "|---|---|"]
    for name in lure.__all__:
        home = f"lure.{lure._MODULE_OF[name]}"
        value = getattr(lure, name)
        path = f"{getattr(value, '__module__', home)}.{name}"
        about = "Name -> method" if isinstance(value, Mapping) else first_line(value)
        lines.append(f"| [`{name}`][{home + '.' + name if isinstance(value, Mapping) else path}] | {about} |")
    lines += ["", "Everything, folder by folder; the methods have [pages of their own](../methods/index.md):", ""]

    elsewhere = {method.__module__ for table in (UNLEARNERS, REGULARIZERS) for method in table.values()}
    folders: dict[str, list[str]] = {}
    for path in sorted((ROOT / "src" / "lure").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
        if "._" in module or module == "lure" or module in elsewhere or module.startswith("lure.cli"):
            continue
        folder = module.split(".")[1] if (ROOT / "src" / "lure" / module.split(".")[1]).is_dir() else "lure"
        folders.setdefault(folder, []).append(module)
    pages = {}
    for folder, modules in sorted(folders.items(), key=lambda item: item[0] != "lure"):  # stable: the ground first
        title = "lure" if folder == "lure" else f"lure.{folder}"
        pages[f"reference/{folder}.md"] = f"# {title}\n\n" + "\n".join(map(module_section, modules))
        lines.append(f"- [{title}]({folder}.md)")
    return {"reference/index.md": "\n".join(lines) + "\n", **pages}


def module_section(module: str) -> str:
    """Return the directive for a module; a package shows what it defines, not what it collects from its modules."""
    package = ROOT / "src" / Path(*module.split(".")) / "__init__.py"
    if not package.exists():
        return f"::: {module}\n"
    defined = re.findall(r"^(?:def|class) ([A-Za-z]\w*)|^([A-Z]\w*)\b.*=", package.read_text(encoding="utf-8"), re.M)
    members = ", ".join(function or table for function, table in defined)
    return f"::: {module}\n    options: {{members: [{members}], show_if_no_docstring: true}}\n"


def cells(notebook: Path) -> Iterator[tuple[bool, str]]:
    """Yield the cells of a notebook in the percent format: whether it is code, and its text."""
    for cell in re.split(r"^# %%", notebook.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        header, _, text = cell.partition("\n")
        is_code = "[markdown]" not in header
        yield is_code, text.strip() if is_code else re.sub(r"^# ?", "", text, flags=re.MULTILINE).strip()


def executed(notebook: Path) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown with what its cells print, and its figures: file name -> PNG.

    A cell that fails ends the build, as it ends the tests.
    """
    os.environ.setdefault("MPLBACKEND", "Agg")
    from matplotlib import pyplot as plt

    names: dict[str, Any] = {"__name__": "__main__"}
    parts, figures, folder = [], {}, Path.cwd()
    for number, (is_code, text) in enumerate(cells(notebook)):
        if not is_code:
            parts.append(text)
            continue
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(io.StringIO()):
            exec(compile(text, f"{notebook.name}, cell {number}", "exec"), names)
        parts.append(f"```python\n{text}\n```")
        if said := printed.getvalue().rstrip():
            parts.append(f"```text\n{said}\n```")
        for figure in plt.get_fignums():
            file = f"{notebook.stem}-{number}-{figure}.png"
            plt.figure(figure).savefig(image := io.BytesIO(), dpi=110, format="png")
            figures[file] = image.getvalue()
            parts.append(f"![Figure of the cell above]({file})")
        plt.close("all")
    os.chdir(folder)  # a notebook may work elsewhere
    return "\n\n".join(parts) + "\n", figures


def linked(text: str, page: str, origin: str) -> str:
    """Return a page's Markdown with its links as they lead on the site; what is not on the site stays as plain text."""

    def lead(match: re.Match[str]) -> str:
        image, words, target, anchor = match.groups(default="")
        file = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
        if file in PLACES:
            place = PLACES[file]
        elif file.startswith("docs/"):
            place = file.removeprefix("docs/")
        elif file.startswith("examples/") or image:
            place = file.removesuffix(".py") + ".md" if file.endswith(".py") else file
        else:
            return words
        return f"{image}[{words}]({posixpath.relpath(place, posixpath.dirname(page) or '.')}{anchor})"

    return LINK.sub(lead, text)


def on_config(config: Any) -> Any:
    """Fill the sections of the navigation whose pages are generated."""
    pages = generated_pages()
    for entry in config["nav"]:
        for title, place in entry.items():
            if isinstance(place, str) and place.endswith("/"):
                entry[title] = [page for page in pages if page.startswith(place)]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages, the notebooks, and the pictures that pages outside of docs/ show."""
    from mkdocs.structure.files import File

    for page, text in generated_pages().items():
        files.append(File.generated(config, page, content=text))
        for image, _, target, _ in LINK.findall(text):
            if image and page in ORIGINS:
                files.append(File.generated(config, target, abs_src_path=str(ROOT / target)))
    for notebook in sorted((ROOT / "docs" / "notebooks").glob("*.py")):
        text, figures = executed(notebook)
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=text))
        for name, figure in figures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=figure))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let the links of a page lead to pages of the site."""
    place = page.file.src_uri
    return linked(markdown, place, ORIGINS.get(place, f"docs/{place}"))
