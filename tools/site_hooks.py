"""What `mkdocs build` needs beyond docs/: pages from elsewhere, the API reference, links to files outside docs/.

- README.md, CONTRIBUTING.md and CHANGELOG.md become pages, with their links turned to where the site has them.
- The reference has a page for the public API, one for the passes, and one for each package; all text on it comes from
  docstrings.
- A link to a file outside docs/ becomes the file's path: the site has no copy of the sources. The file must exist.
"""

from __future__ import annotations

import inspect
import os
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
COPIED = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(
    r"(?P<open>!?\[[^\]]*\]\(|(?:src|href|srcset)=\")(?P<path>[^)\"#\s]+)(?P<rest>#[^)\"\s]*)?(?P<close>[)\"])"
)
ELSEWHERE = ("http://", "https://", "mailto:")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the pages of the reference in the navigation."""
    pages: list[Any] = [{title: path} for path, (title, _) in reference().items()]
    assert config.nav is not None
    config.nav = [entry for entry in config.nav if "Reference" not in entry] + [{"Reference": pages}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/."""
    for name, page in COPIED.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=relocated(text, ROOT, page)))
    for path, (_, text) in reference().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links of pages in docs/ that lead out of it."""
    if page.file.generated_by:
        return markdown
    return relocated(markdown, (Path(config.docs_dir) / page.file.src_uri).parent, page.file.src_uri)


def relocated(markdown: str, folder: Path, page: str) -> str:
    """The text of a file in `folder` with its links as `page` of the site needs them. Code blocks stay."""
    parts = re.split(r"(^```.*?^```)", markdown, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if part.startswith("```") else _relocated(part, folder, page) for part in parts)


def _relocated(text: str, folder: Path, page: str) -> str:
    def turned(match: re.Match[str]) -> str:
        if match["path"].startswith(ELSEWHERE):
            return match[0]
        target = (folder / match["path"]).resolve()
        if not target.is_relative_to(ROOT) or not target.exists():
            raise PluginError(f"{page}: no file '{match['path']}'")
        inside = target.relative_to(ROOT).as_posix()
        to = COPIED.get(inside) or (inside.removeprefix("docs/") if inside.startswith("docs/") else None)
        if to is not None and not target.is_dir():
            path = os.path.relpath(to, Path(page).parent)
            return f"{match['open']}{path}{match['rest'] or ''}{match['close']}"
        label = match["open"][1:-2]
        return f"`{inside}`" if label.strip("`/") == inside else f"{label} (`{inside}`)"

    return LINK.sub(turned, text)


def reference() -> dict[str, tuple[str, str]]:
    """Page -> (title, Markdown) of the API reference."""
    pages = {"reference/index.md": ("segc", public()), "reference/all-passes.md": ("All passes", passes())}
    for package, modules in sorted(packages().items()):
        text = "\n\n".join(
            [f"# {package}", *(f"::: {module}\n    options: {{heading_level: 2}}" for module in modules)]
        )
        pages[f"reference/{package}.md"] = (package, text + "\n")
    return pages


def public() -> str:
    """What `import segc` gives: each name of `segc.__all__` from its own docstring."""
    import segc

    blocks = ["# The public API", inspect.cleandoc(segc.__doc__ or "")]
    for name in segc.__all__:
        member = getattr(segc, name)
        if inspect.ismodule(member) and not hasattr(member, "__path__"):
            blocks.append(f"## {name} {{#segc-{name}}}\n\nA module: [{member.__name__}][].")
        elif inspect.ismodule(member):
            blocks.append(f"## {name} {{#segc-{name}}}\n\nA package: [{member.__name__}]({member.__name__}.md).")
        elif inspect.isclass(member) or inspect.isfunction(member):
            options = "{heading_level: 2, skip_local_inventory: true}"  # its anchor is that of its own module's page
            blocks.append(f"::: {member.__module__}.{member.__qualname__}\n    options: {options}")
    return "\n\n".join(blocks) + "\n"


def passes() -> str:
    """Every pass by folder: name, algebra, first sentence."""
    from segc.passes.registry import REGISTRY, folder_of

    folders: dict[str, list[str]] = defaultdict(list)
    for cls in REGISTRY.values():
        first = inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
        row = f"| [`{cls.name}`][{cls.__module__}.{cls.__qualname__}] | {first} |"
        folders[folder_of(cls)].append(row)
    parts = ["# All passes", "`segc passes NAME` prints the same, with the options of each."]
    for folder, rows in folders.items():
        parts.append("\n".join([f"## {folder}", "", "| pass | what it does |", "|---|---|", *sorted(rows)]))
    return "\n\n".join(parts) + "\n"


def packages() -> dict[str, list[str]]:
    """Package -> its modules, by dotted name; the package itself first."""
    found: dict[str, list[str]] = {}
    for folder, prefix in (("segc", ""), ("passes", "segc."), ("targets", "segc.")):
        for path in sorted((ROOT / folder).rglob("*.py"), key=lambda p: (p.parent, p.name != "__init__.py", p)):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if parts[:2] in (("segc", "passes"), ("segc", "targets")) or parts[-1] == "__main__":
                continue
            package = prefix + ".".join(parts[:-1])
            found.setdefault(package, []).append((prefix + ".".join(parts)).removesuffix(".__init__"))
    return found
