"""What the documentation site adds to the Markdown below docs/.

One page of the API reference for each public module; and links to files outside docs/, which
become links to the repository. A public name without a docstring is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PACKAGE = "careflow_storage"
# Without `__all__`; what they define is public.
INTEGRATIONS = f"{PACKAGE}.integrations"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the API reference."""
    package = griffe.load(PACKAGE)
    modules = list(_public_modules(package))
    if missing := [path for module in modules for path in _undocumented(module)]:
        raise PluginError("Public names without a docstring: " + ", ".join(missing))
    overview = "# API\n\nOne page for each public module.\n\n| Module | |\n|---|---|\n"
    pages: list[str | dict[str, str]] = ["api/index.md"]
    for module in modules:
        path = f"api/{module.path}.md"
        overview += f"| [`{module.path}`]({module.path}.md) | {_summary(module)} |\n"
        pages.append({module.path.removeprefix(f"{PACKAGE}."): path})
        files.append(File.generated(config, path, content=_reference(module)))
    files.append(File.generated(config, "api/index.md", content=overview))
    reference = next(each["Reference"] for each in config.nav or [] if "Reference" in each)
    next(each for each in reference if "API" in each)["API"] = pages
    return files


def _reference(module: griffe.Module) -> str:
    """Return the page of a module: its docstring, then each name with its own."""
    head = f"::: {module.path}\n    options:\n      members: []\n      show_root_heading: false\n"
    names = "\n".join(f"::: {module.path}.{name}\n" for name in _names(module))
    return f"# {module.path}\n\n{head}\n{names}"


def _summary(module: griffe.Module) -> str:
    return module.docstring.value.partition("\n")[0] if module.docstring else ""


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to files outside docs/ to the repository."""
    depth = page.file.src_uri.count("/")
    outside = re.compile(r"\]\((?:\.\./){" + str(depth + 1) + r"}([^)#\s]+)(#[^)\s]*)?\)")
    repository = f"{(config.repo_url or '').rstrip('/')}/blob/main"
    return outside.sub(lambda found: f"]({repository}/{found[1]}{found[2] or ''})", markdown)


def _public_modules(package: griffe.Object | griffe.Alias) -> Iterator[griffe.Module]:
    """Yield the modules whose names users import, the package itself first."""
    yield package
    for name, module in sorted(package.modules.items()):
        if name.startswith("_") or module.is_alias:
            continue
        if module.path == INTEGRATIONS:
            yield from (
                each for each in sorted(module.modules.values(), key=lambda each: each.path)
            )
        elif module.exports is not None:
            yield module


def _names(module: griffe.Module) -> Iterator[str]:
    if module.exports is not None:
        yield from (str(name) for name in module.exports if not str(name).startswith("__"))
        return
    for name, member in module.members.items():
        if not (name.startswith("_") or name == "logger" or member.is_alias or member.is_module):
            yield name


def _undocumented(module: griffe.Module) -> Iterator[str]:
    if module.docstring is None:
        yield module.path
    for name in _names(module):
        member = module[name]
        if not member.has_docstring:
            yield member.path
        if member.is_class:
            yield from _undocumented_methods(member)


def _undocumented_methods(member: griffe.Object | griffe.Alias) -> Iterator[str]:
    for name, each in member.all_members.items():
        if not name.startswith("_") and each.is_function and not each.has_docstring:
            yield f"{member.path}.{name}"
