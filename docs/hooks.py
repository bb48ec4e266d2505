"""What MkDocs makes of the sources: the API reference, the metric cards, the help of commands."""

import ast
import contextlib
import importlib
import io
import os
import re
import sys
from pathlib import Path
from types import ModuleType

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "modeledit_jax"
HELP = re.compile(r"<!-- help: ([\w.]+) -->")

ALONE = ("mesh", "struct", "types")
"""Modules that are in no package."""

METRICS = """# Metrics

What every number of a report means, how it is computed, where the convention is from, what values
it takes, and what it is before any edit. Names are those of `summary.json` and `metrics.csv`.
"""


def on_config(config):
    """Puts the API reference into the navigation."""
    pages = [{"Everyday names": "reference/modeledit_jax.md"}]
    pages += [{name: f"reference/{name}.md"} for name in sorted([*packages(), *ALONE])]
    config.nav.append({"API reference": pages})
    return config


def on_files(files, config):
    """Adds the pages that are made of the sources."""
    pages = {f"reference/{name}.md": reference(name) for name in packages()}
    pages["reference/modeledit_jax.md"] = everyday()
    for name in ALONE:
        pages[f"reference/{name}.md"] = f"# {name}\n\n::: modeledit_jax.{name}\n"
    pages["metrics.md"] = metrics()
    pages["everyday_uses.md"] = section_of_readme("Four everyday uses")
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown, **_):
    """Puts in what ``--help`` of a command prints."""
    return HELP.sub(lambda found: f"```text\n{help_of(found[1])}\n```", markdown)


def packages():
    """Names of the packages with modules, without ``modeledit_jax.``."""
    found = {path.parent for path in PACKAGE.rglob("*.py")} - {PACKAGE}
    names = [".".join(folder.relative_to(PACKAGE).parts) for folder in found]
    return sorted([name for name in names if modules(name)])


def modules(package):
    """Names of the modules of a package."""
    folder = PACKAGE.joinpath(*package.split("."))
    names = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    return [f"modeledit_jax.{package}.{name}" for name in names]


def reference(package):
    """The page of a package: its docstring, then its modules."""
    lines = [f"# {package}", "", f"::: modeledit_jax.{package}", "    options:"]
    lines += ["      members: false", "      show_root_heading: false"]
    lines += ["      show_root_toc_entry: false", ""]
    return "\n".join([*lines, *(f"::: {name}\n" for name in modules(package))])


def everyday():
    """The page of the names in ``modeledit_jax`` itself."""
    lines = ["# Everyday names", "", "`import modeledit_jax as me` brings these.", ""]
    for node in ast.parse((PACKAGE / "__init__.py").read_text()).body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if about := first_sentence(node.module, alias.name):
                    link = f"[`me.{alias.name}`][{node.module}.{alias.name}]"
                    lines.append(f"- {link}: {about}")
    return "\n".join(lines)


def first_sentence(module, name):
    """What the docstring of a function or class begins with; None for other names."""
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
    for node in tree.body:
        if getattr(node, "name", None) == name:
            return (ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ")
    return None


def section_of_readme(title):
    """A section of README as a page."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split(f"## {title}\n")[1].split("\n## ")[0]
    return f"# {title}\n{section}\n"


def metrics():
    """The metric cards of all families, as tables."""
    parts = [METRICS]
    for title, name in (
        ("Unlearning", "unlearning_cards"),
        ("Fairness", "fairness_cards"),
        ("Knowledge editing", "knowledge_cards"),
    ):
        with without_init():
            module = importlib.import_module(f"modeledit_jax.evaluation.{name}")
        parts.append(f"## {title}\n")
        parts += [card(one) for one in module.METRIC_CARDS]
    return "\n".join(parts)


@contextlib.contextmanager
def without_init():
    """Modules of the package that need no JAX are imported without it, which takes seconds."""
    before = dict(sys.modules)
    for name in ("modeledit_jax", "modeledit_jax.evaluation"):
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__path__ = [str(ROOT / name.replace(".", "/"))]
    yield
    for name in set(sys.modules) - set(before):
        del sys.modules[name]


def card(one):
    """One metric."""
    better = {"higher": "higher is better", "lower": "lower is better", "none": "neither"}
    rows = {
        "Formula": f"`{one.formula}`",
        "Range": f"{one.range}, {better[one.better]}",
        "Before any edit": one.unedited,
        "Source": one.source,
    }
    lines = [f"### `{one.name}`", "", f"{one.definition[0].upper()}{one.definition[1:]}.", ""]
    lines += ["| | |", "| --- | --- |"]
    lines += [f"| {name} | {cell(text)} |" for name, text in rows.items()]
    return "\n".join([*lines, ""])


def cell(text):
    return text.replace("|", "\\|")


def help_of(name):
    """What ``python -m experiments.NAME --help`` prints."""
    command = importlib.import_module(f"experiments.{name}.__main__").command
    os.environ["COLUMNS"] = "96"
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
        command(["--help"])
    return text.getvalue().rstrip()
