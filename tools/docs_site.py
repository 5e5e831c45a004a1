"""What the site has beside docs/: README, CONTRIBUTING, CHANGELOG, a page per public module, the
help of every command, and the examples. Hooks of MkDocs (see mkdocs.yml)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PACKAGES = ("recast", "sim", "workbench")
NO_API = ("workbench/pages/", "workbench/commands/", "workbench/cli.py")
"""Scripts of the app and commands: documented where they are used, not as functions to call."""
COPIED = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}


def modules() -> list[str]:
    """Dotted names of the public modules, packages first."""
    found = []
    for path in (p for name in PACKAGES for p in (ROOT / name).rglob("*.py")):
        place = path.relative_to(ROOT).as_posix()
        parts = place.removesuffix(".py").removesuffix("/__init__").split("/")
        if not place.startswith(NO_API) and not any(part.startswith("_") for part in parts):
            found.append(".".join(parts))
    return sorted(found)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the modules in the navigation, by package."""
    names = modules()
    grouped = [
        {package: [{n: f"api/{n}.md"} for n in names if n.split(".")[0] == package]}
        for package in PACKAGES
    ]
    for entry in config.nav or []:
        if "API" in entry:
            entry["API"] = grouped
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages and the files that pages link to."""
    pages = {f"api/{name}.md": f"# {name}\n\n::: {name}\n" for name in modules()}
    pages |= {to: (ROOT / source).read_text(encoding="utf-8") for to, source in COPIED.items()}
    pages["commands.md"] = commands_page()
    pages["LICENSE.txt"] = (ROOT / "LICENSE").read_text(encoding="utf-8")
    for path in sorted((ROOT / "examples").rglob("*")):
        if path.suffix in (".py", ".sh", ".yaml"):
            # As text: a browser shows it, and nothing takes it for a page.
            pages[f"examples/{path.relative_to(ROOT / 'examples')}.txt"] = path.read_text("utf-8")
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links as they stand in the repository, as they stand in the site."""
    if page.file.src_uri in COPIED:
        markdown = re.sub(r"\]\(docs/", "](", markdown)
        markdown = markdown.replace("](LICENSE)", "](LICENSE.txt)")
        for to, source in COPIED.items():
            markdown = markdown.replace(f"]({source})", f"]({to})")
    return re.sub(r"\]\((?:\.\./)?(examples/[^)#]+\.(?:py|sh|yaml))\)", r"](\1.txt)", markdown)


def commands_page() -> str:
    """The help of every command."""
    from workbench.cli import cli

    parts = ["# Commands", "", "What `--help` prints, command by command."]
    for names, command in _every_command("recast", cli):
        context = click.Context(command, info_name=names)
        parts += ["", f"## {names}", "", "```text", command.get_help(context), "```"]
    return "\n".join(parts) + "\n"


def _every_command(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for inner in command.list_commands(context):
            sub = command.get_command(context, inner)
            assert sub is not None
            yield from _every_command(f"{name} {inner}", sub)
