"""What the documentation site adds to the Markdown below docs/.

One page of the API reference for each public module, and one for the errors. Links to files
outside docs/ become links to the repository. A public name without a docstring is an error, and so
is a link or a picture of the built site that leads nowhere.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

import built_site
import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PACKAGE = "careflow_storage"
# Without `__all__`; what they define is public.
INTEGRATIONS = f"{PACKAGE}.integrations"
# What a reader looks for first on its page; the other names follow in their order.
FIRST = ("BackblazeStorage", "StorageError")
# In the results of a search, pages for users come before these, by the beginning of their path.
SEARCH_BOOSTS = {
    "api/": 0.04,
    "decisions/": 0.1,
    "releasing": 0.1,
    "benchmarks": 0.3,
    "migration-": 0.3,
}
# Of a class that only methods make.
UNMADE = "    options:\n      show_signature: false\n      merge_init_into_class: false\n"
_FILE_NAME = re.compile(r"\[([\w/-]+\.md)\](?=\(((?:\.\./)*[\w/-]+\.md)[)#])")
_IMAGE = re.compile(r'(<img [^>]*src=")([^":]+)"')


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the API reference."""
    package = griffe.load(PACKAGE)
    modules = list(_public_modules(package))
    if missing := [path for module in modules for path in _undocumented(module)]:
        raise PluginError("Public names without a docstring: " + ", ".join(missing))
    overview = "# API\n\nOne page for each public module.\n\n| Module | |\n|---|---|\n"
    pages: list[str | dict[str, str]] = ["api/index.md"]
    for module in modules:
        for title, summary, content in _pages(module, package):
            path = f"api/{title}.md"
            overview += f"| [`{title}`]({title}.md) | {summary} |\n"
            pages.append({title.removeprefix(f"{PACKAGE}."): path})
            files.append(File.generated(config, path, content=content))
    files.append(File.generated(config, "api/index.md", content=overview))
    reference = next(each["Reference"] for each in config.nav or [] if "Reference" in each)
    next(each for each in reference if "API" in each)["API"] = pages
    return files


def _pages(module: griffe.Module, package: griffe.Module) -> Iterator[tuple[str, str, str]]:
    """Yield the title, the summary and the Markdown of each page of a module."""
    names = list(_names(module))
    errors = [name for name in names if module is package and _is_error(module, name)]
    others = [name for name in names if name not in errors]
    yield module.path, _summary(module), _reference(module, others)
    if errors:
        yield f"{PACKAGE}.errors", _summary(package["errors"]), _errors(module, errors)


def _reference(module: griffe.Module, names: list[str]) -> str:
    """Return the page of a module: its docstring, then those of the names."""
    head = f"::: {module.path}\n    options:\n      members: []\n      show_root_heading: false\n"
    each = "\n".join(
        f"::: {module.path}.{name}\n{UNMADE if _is_unmade(module[name]) else ''}"
        for name in _first(names)
    )
    return f"# {module.path}\n\n{head}\n{each}"


def _errors(module: griffe.Module, names: list[str]) -> str:
    """Return the page of the errors. All have the arguments of `StorageError`."""
    page = (
        f"# {module.path}.errors\n\nImport the errors from `{module.path}`. "
        "[Errors](../errors.md) says when each is raised, and what to do.\n"
    )
    for name in _first(names):
        page += f"\n::: {module.path}.{name}\n"
        if name not in FIRST:
            page += "    options:\n      show_signature: false\n      inherited_members: false\n"
    return page


def _is_error(module: griffe.Module, name: str) -> bool:
    member = module[name]
    return bool(member.is_alias) and member.final_target.path.startswith(f"{PACKAGE}.errors.")


def _is_unmade(member: griffe.Object | griffe.Alias) -> bool:
    """Whether users get objects of a class, and make none: its first argument is internal."""
    target = member.final_target if isinstance(member, griffe.Alias) else member
    method = target.members.get("__init__") if target.is_class else None
    if not isinstance(method, griffe.Function) or len(method.parameters) < 2:
        return False
    annotation = method.parameters[1].annotation
    return isinstance(annotation, griffe.Expr) and f"{PACKAGE}._" in annotation.canonical_path


def _first(names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: name not in FIRST)


def _summary(module: griffe.Module) -> str:
    return module.docstring.value.partition("\n")[0] if module.docstring else ""


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Change links and pictures.

    Links to files outside docs/ lead to the repository, links that are called as a file get the
    title of its page, and pictures in HTML have the URLs that MkDocs gives those in Markdown.
    """
    for path, boost in SEARCH_BOOSTS.items():
        if page.file.src_uri.startswith(path):
            page.meta.setdefault("search", {"boost": boost})
    markdown = _IMAGE.sub(lambda found: f'{found[1]}{_image(found[2], page, files)}"', markdown)
    markdown = _FILE_NAME.sub(lambda found: f"[{_title(found, page, files)}]", markdown)
    depth = page.file.src_uri.count("/")
    outside = re.compile(r"\]\((?:\.\./){" + str(depth + 1) + r"}([^)#\s]+)(#[^)\s]*)?\)")
    repository = f"{(config.repo_url or '').rstrip('/')}/blob/main"
    return outside.sub(lambda found: f"]({repository}/{found[1]}{found[2] or ''})", markdown)


def on_post_build(*, config: MkDocsConfig) -> None:
    """Refuse a site with a link or a picture that leads nowhere."""
    if broken := built_site.broken_links(config.site_dir):
        raise PluginError("The site has broken links:\n" + "\n".join(broken))


def _title(link: re.Match[str], page: Page, files: Files) -> str:
    """Return the heading of the page that a link has the file name of."""
    folder = posixpath.dirname(page.file.src_uri)
    file = files.get_file_from_path(posixpath.normpath(posixpath.join(folder, link[2])))
    if file is None or posixpath.basename(link[1]) != posixpath.basename(link[2]):
        return link[1]
    return file.content_string.partition("\n")[0].removeprefix("# ")


def _image(source: str, page: Page, files: Files) -> str:
    """Return the URL of a picture, as MkDocs makes it for pictures in Markdown."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page.file.src_uri), source))
    file = files.get_file_from_path(path)
    return source if file is None else file.url_relative_to(page.file)


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
