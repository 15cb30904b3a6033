"""The documents are right: their Python runs as pasted, their tables match the code."""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import annotated_types
import pytest
from pydantic import SecretStr

import careflow_storage
import careflow_storage.admin
import careflow_storage.doctor
import careflow_storage.keys
import careflow_storage.migrate
import careflow_storage.usage
from careflow_storage import BackblazeStorage, StorageError, StorageSettings, errors
from careflow_storage._aws_names import AWS_NAMES
from careflow_storage._s3 import error_codes
from careflow_storage.admin import StorageAdmin
from careflow_storage.integrations.problems import http_status
from careflow_storage.local import LocalServer

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NODE_METHODS = [
    *("initialize", "isConfigured", "uploadFile", "uploadRecording", "getSignedUrl"),
    *("getFile", "deleteFile", "listFiles", "getFileMetadata", "fileExists"),
]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_UNITS = {"MiB": 1024**2, "GiB": 1024**3, "GB": 1000**3}

Bound = tuple[str, float]


def read(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def python_blocks(document: Path) -> Iterator[tuple[int, str]]:
    """Give each block of Python with the line that it begins on."""
    text = read(document)
    for found in _FENCE.finditer(text):
        if found[1] == "python":
            yield text.count("\n", 0, found.start(2)), found[2]


def rows(document: Path, first_heading: str) -> list[list[str]]:
    """Give the cells of the table whose first column has this heading."""
    lines = read(document).splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"| {first_heading} |"))
    table = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table


def code_names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


# --- the code runs ----------------------------------------------------------------------


@pytest.fixture
def reader(
    seaweedfs: LocalServer,
    seaweed_settings: StorageSettings,
    recordings: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Path:
    """A reader's working directory, with a recording in it and the variables set."""
    variables = seaweedfs.environment()
    variables["BACKBLAZE_BUCKET_NAME"] = str(seaweed_settings.bucket_name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "recording.webm").write_bytes(recordings["greeting.webm"].read_bytes())
    return tmp_path


@pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if any(python_blocks(path))], ids=lambda path: path.name
)
async def test_the_python_of_a_document_runs_as_pasted(document: Path, reader: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    try:
        for line, block in python_blocks(document):
            if "asyncio.run(" in block:
                await asyncio.to_thread(run_as_script, block, reader)
            else:
                await paste(block, namespace, document, line)
        left_open = [name for name, value in namespace.items() if is_open(value)]
    finally:
        for value in namespace.values():
            if isinstance(value, BackblazeStorage):
                await value.close()
    assert not left_open


def test_the_excerpts_of_the_web_apps_are_verbatim() -> None:
    examples = [read(path) for path in sorted((ROOT / "examples/web_frameworks").glob("*.py"))]
    document = read(ROOT / "docs/web-frameworks.md")
    excerpts = [found[2].rstrip() for found in _FENCE.finditer(document) if found[1] == "py"]
    assert len(excerpts) > len(examples)
    for excerpt in excerpts:
        assert any(excerpt in example for example in examples), excerpt


def is_open(value: object) -> bool:
    return isinstance(value, BackblazeStorage) and value._runtime.state == "open"


def run_as_script(block: str, folder: Path) -> None:
    script = folder / "pasted.py"
    script.write_text(block, encoding="utf-8")
    finished = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=folder,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr


async def paste(block: str, namespace: dict[str, Any], document: Path, line: int) -> None:
    """Run a block as ``python -m asyncio`` does, where ``await`` needs no function around it."""
    code = compile(
        "\n" * line + block,
        str(document),
        "exec",
        flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        dont_inherit=True,
    )
    result = types.FunctionType(code, namespace)()
    if inspect.iscoroutine(result):
        await result


PASTED = [document for document in DOCUMENTS if "`python -m asyncio`" in read(document)]


@pytest.mark.skipif(sys.platform == "win32", reason="its console takes no script on stdin")
@pytest.mark.parametrize("document", PASTED, ids=lambda path: path.name)
async def test_what_is_to_be_pasted_can_be_pasted_into_the_asyncio_prompt(
    document: Path, reader: Path
) -> None:
    pasted = "\n".join(block for _, block in python_blocks(document))
    finished = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "asyncio"],
        input=pasted,
        cwd=reader,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    assert "Error" not in finished.stderr, finished.stderr
    assert "recordings/" in finished.stdout


# --- the tables fit the code ------------------------------------------------------------


def test_every_setting_is_in_the_table_as_it_is() -> None:
    documented = {code_names(row[0])[0]: row for row in rows(ROOT / "docs/settings.md", "Variable")}
    expected = {f"BACKBLAZE_{name.upper()}": name for name in StorageSettings.model_fields}
    assert list(documented) == list(expected)
    for variable, name in expected.items():
        _, kind, _, default, bounds, fallback = documented[variable]
        field = StorageSettings.model_fields[name]
        assert kind == documented_type(name), variable
        assert code_names(fallback) == ([AWS_NAMES[name]] if name in AWS_NAMES else []), variable
        assert parse_bounds(bounds) == bounds_of(field.metadata), variable
        if field.default is None:
            assert default.split()[0] in {"required", "from", "the"}, variable
        elif isinstance(field.default, str):
            assert code_names(default) == [field.default], variable
        elif isinstance(field.default, bool):
            assert default == str(field.default).lower(), variable
        else:
            assert number(default) == field.default, variable


def test_the_required_settings_are_called_required() -> None:
    table = rows(ROOT / "docs/settings.md", "Variable")
    missing = set(StorageSettings().missing_variables())
    required = {code_names(row[0])[0] for row in table if row[3] == "required"}
    assert required == missing - {"BACKBLAZE_ENDPOINT"}


def documented_type(name: str) -> str:
    annotation = typing.get_type_hints(StorageSettings)[name]
    choices = [kind for kind in get_args(annotation) if kind is not type(None)] or [annotation]
    if get_origin(annotation) is Literal:
        *first, last = (f"`{choice}`" for choice in choices)
        return f"{', '.join(first)} or {last}"
    kinds = {str: "text", SecretStr: "secret", bool: "true or false", int: "integer", Path: "path"}
    return kinds.get(choices[0], "number")


def number(text: str) -> float:
    value, _, unit = text.partition(" ")
    return float(value) * _UNITS.get(unit, 1)


def parse_bounds(text: str) -> set[Bound]:
    if not text:
        return set()
    if text.endswith(" or more"):
        return {("ge", number(text.removesuffix(" or more")))}
    low, _, high = text.partition(" to ")
    if low.startswith("over "):
        return {("gt", number(low.removeprefix("over "))), ("le", number(high))}
    return {("ge", number(low)), ("le", number(high))}


def bounds_of(metadata: list[Any]) -> set[Bound]:
    bounds: set[Bound] = set()
    for item in metadata:
        match item:
            case annotated_types.Ge(ge):
                bounds.add(("ge", float(typing.cast(float, ge))))
            case annotated_types.Gt(gt):
                bounds.add(("gt", float(typing.cast(float, gt))))
            case annotated_types.Le(le):
                bounds.add(("le", float(typing.cast(float, le))))
    return bounds


def test_every_error_is_in_the_table_with_its_codes() -> None:
    table = {code_names(row[0])[0]: row for row in rows(ROOT / "docs/errors.md", "Class")}
    assert set(table) == {cls.__name__ for cls in error_classes()}
    documented = {code: name for name, row in table.items() for code in code_names(row[2])}
    assert documented == {code: entry[0].__name__ for code, entry in error_codes.BY_CODE.items()}
    statuses = {
        int(status): name
        for name, row in table.items()
        for status in re.findall(r"\b\d{3}\b(?! with)", row[2])
    }
    assert statuses == {
        status: entry[0].__name__ for status, entry in error_codes.BY_STATUS.items()
    }


def test_the_builtins_of_the_errors_are_in_the_table() -> None:
    classes = {cls.__name__: cls for cls in error_classes()}
    for row in rows(ROOT / "docs/errors.md", "Class"):
        name, *documented = code_names(row[0])
        parents = [
            base.__name__ for base in classes[name].__bases__ if base.__name__ != "StorageError"
        ]
        assert documented == parents, name


def test_the_http_responses_are_those_of_the_integrations() -> None:
    classes = {cls.__name__: cls for cls in error_classes()}
    for row in rows(ROOT / "docs/errors.md", "Class"):
        (name, *_), response = code_names(row[0]), int(row[4])
        error = classes[name].__new__(classes[name], "")
        assert response == http_status(error), name


def error_classes() -> list[type[StorageError]]:
    found, waiting = [], StorageError.__subclasses__()
    while waiting:
        cls = waiting.pop()
        waiting += cls.__subclasses__()
        if cls.__module__ == errors.__name__:
            found.append(cls)
    return found


REFERENCES = [
    ("docs/reference.md", careflow_storage, BackblazeStorage),
    ("docs/admin-reference.md", careflow_storage.admin, StorageAdmin),
]


# What stands beside admin, on the same page.
BESIDE_ADMIN = (
    careflow_storage.doctor,
    careflow_storage.keys,
    careflow_storage.migrate,
    careflow_storage.usage,
)


def home_of(name: str, package: types.ModuleType) -> types.ModuleType:
    homes: list[types.ModuleType] = [package]
    if package is careflow_storage.admin:
        homes += BESIDE_ADMIN
    return next(each for each in homes if name in each.__all__)


@pytest.mark.parametrize(("page", "package", "facade"), REFERENCES, ids=["storage", "admin"])
class TestTheReference:
    def test_it_names_everything_public(
        self, page: str, package: types.ModuleType, facade: type
    ) -> None:
        text = read(ROOT / page)
        public = [name for name in dir(facade) if not name.startswith("_")]
        for name in [*package.__all__, *public]:
            assert re.search(rf"`[^`]*\b{name}\b[^`]*`", text), name

    def test_it_has_the_signatures_as_they_are(
        self, page: str, package: types.ModuleType, facade: type
    ) -> None:
        for row in rows(ROOT / page, "Method"):
            call = code_names(row[0])[0].removeprefix("await ")
            name, _, arguments = call.rstrip(")").partition("(")
            signature = inspect.signature(getattr(facade, name))
            actual = [
                each.name if each.default is each.empty else f"{each.name}={each.default!r}"
                for each in signature.parameters.values()
                if each.name != "self"
            ]
            documented = arguments.replace('"', "'").replace("*, ", "").split(", ")
            if documented[-1] == "…":
                documented.pop()
                actual = actual[: len(documented)]
            assert [text for text in documented if text] == actual, name

    def test_it_names_every_field_of_every_result(
        self, page: str, package: types.ModuleType, facade: type
    ) -> None:
        for row in rows(ROOT / page, "Model"):
            model = getattr(home_of(code_names(row[0])[0], package), code_names(row[0])[0])
            assert code_names(row[1]) == list(model.model_fields)


def test_the_table_of_the_options_has_all_of_them() -> None:
    documented = [code_names(row[0])[0] for row in rows(ROOT / "docs/reference.md", "Option")]
    assert set(documented) == careflow_storage.ObjectOptions.__optional_keys__


def test_the_migration_covers_the_whole_node_class() -> None:
    text = read(ROOT / "docs/migration-from-node.md")
    for name in NODE_METHODS:
        ours = re.sub(r"([A-Z])", lambda found: "_" + found[1].lower(), name)
        assert re.search(rf"\b{name}\(", text), name
        assert f"{ours}(" in text, ours
        assert callable(getattr(BackblazeStorage, ours))


# --- every page can be found ------------------------------------------------------------


def pages() -> list[str]:
    folder = ROOT / "docs"
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.md"))


def test_every_page_is_in_the_navigation_of_the_site_once() -> None:
    navigation = re.findall(
        r"^ +- (?:[\w. ]+: )?([\w/-]+\.md)$", read(ROOT / "mkdocs.yml"), re.MULTILINE
    )
    assert sorted(navigation) == pages()


def test_the_index_links_every_page() -> None:
    linked = {
        f"{folder}{link.partition('#')[0]}"
        for folder, index in (("", "README.md"), ("decisions/", "decisions/README.md"))
        for link in _LINK.findall(read(ROOT / "docs" / index))
    }
    assert set(pages()) - linked == {"README.md"}


@pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if path.parent != ROOT], ids=lambda path: path.name
)
def test_a_page_begins_with_a_sentence_about_it(document: Path) -> None:
    title, paragraph, *_ = read(document).split("\n\n")
    assert title.startswith("# ")
    # No code, table, list or picture.
    assert re.match(r"(?:\[?`|\*\*|\[)?\w", paragraph), paragraph
    assert re.search(r"[.:]$", paragraph), paragraph


# --- the links lead somewhere -----------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_a_heading(document: Path) -> None:
    prose = _FENCE.sub("", read(document))
    for link in _LINK.findall(prose):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", read(document)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
