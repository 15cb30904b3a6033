"""``download --prefix``: nothing is written outside of the folder, or over another file."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from careflow_storage import BackblazeStorage, StorageSettings
from careflow_storage.cli.actions import local_places
from tests.support.command import Command


@pytest.fixture
def command(settings: StorageSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Command(settings)


def files(folder: Path) -> dict[str, bytes]:
    """All files below a folder, not through links."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


@pytest.mark.parametrize("force", [[], ["--force"], ["--resume"], ["--dry-run"]], ids=str)
@pytest.mark.parametrize("link", ["sub", "sub/deep", "sub/deep/a.webm"])
async def test_given_a_link_below_the_folder_then_nothing_is_written_through_it(
    command: Command, storage: BackblazeStorage, tmp_path: Path, link: str, force: list[str]
) -> None:
    await storage.upload_file("p/sub/deep/a.webm", b"foreign")
    await storage.upload_file("p/b.webm", b"fine")
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "a.webm").write_bytes(b"precious")
    (outside / "deep" / "a.webm").write_bytes(b"precious")
    place = tmp_path / "out" / link
    place.parent.mkdir(parents=True)
    place.symlink_to(outside / "a.webm" if link.endswith("webm") else outside)
    before = files(outside)
    ran = await command("download", "--prefix", "p/", "out", *force)
    assert ran.code == 1
    assert "symbolic link" in ran.err
    assert files(outside) == before
    assert place.is_symlink()
    assert files(tmp_path / "out") == ({} if "--dry-run" in force else {"b.webm": b"fine"})


async def test_given_a_folder_that_is_a_link_itself_then_it_is_where_the_files_go(
    command: Command, storage: BackblazeStorage, tmp_path: Path
) -> None:
    await storage.upload_file("p/sub/a.webm", b"x")
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    assert (await command("download", "--prefix", "p/", "out")).code == 0
    assert files(tmp_path / "real") == {"sub/a.webm": b"x"}


CLASHES = {
    "case": ("A.webm", "a.webm"),
    "case of a folder": ("Sub/x.webm", "sub/x.webm"),
    "case of a sharp s": ("STRASSE", "straße"),
    "normal forms": tuple(unicodedata.normalize(form, "é.webm") for form in ("NFD", "NFC")),
    "a file and a folder": ("B", "b/c"),
}


@pytest.mark.parametrize("force", [[], ["--force"], ["--resume"]], ids=str)
@pytest.mark.parametrize("names", CLASHES.values(), ids=CLASHES)
async def test_given_names_that_are_equal_to_the_file_system_then_the_second_fails(
    command: Command,
    storage: BackblazeStorage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: tuple[str, str],
    force: list[str],
) -> None:
    monkeypatch.setattr(local_places, "ignores_case", lambda _: True)
    for name in names:
        await storage.upload_file(f"p/{name}", name.encode())
    ran = await command("download", "--prefix", "p/", "out", "--jobs", "1", *force)
    assert ran.code == 1
    assert "is also that of" in ran.err
    first = min(names, key=lambda name: name.encode())
    assert files(tmp_path / "out") == {first: first.encode()}


async def test_given_a_case_sensitive_file_system_then_both_are_downloaded(
    command: Command,
    storage: BackblazeStorage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local_places, "ignores_case", lambda _: False)
    for name in ("A.webm", "b.webm"):
        await storage.upload_file(f"p/{name}", name.encode())
    assert (await command("download", "--prefix", "p/", "out")).code == 0
    assert files(tmp_path / "out") == {"A.webm": b"A.webm", "b.webm": b"b.webm"}


async def test_given_a_key_that_is_a_folder_of_another_then_it_fails(
    command: Command, storage: BackblazeStorage, tmp_path: Path
) -> None:
    for name in ("a", "a/b", "a/b/c"):
        await storage.upload_file(f"p/{name}", name.encode())
    ran = await command("download", "--prefix", "p/", "out", "--jobs", "1")
    assert ran.code == 1
    assert ran.err.count("is also that of") == 2
    assert files(tmp_path / "out") == {"a": b"a"}


async def test_given_a_file_in_the_place_of_a_folder_then_it_stays(
    command: Command, storage: BackblazeStorage, tmp_path: Path
) -> None:
    await storage.upload_file("p/a/b", b"x")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_bytes(b"precious")
    ran = await command("download", "--prefix", "p/", "out", "--force")
    assert ran.code == 1
    assert files(tmp_path / "out") == {"a": b"precious"}


@pytest.mark.parametrize(
    "key", ["p/../x", "p/./x", "p/a//x", "p//x", "p/a\\..\\x", "p/C:\\x", "p/..", "p/a/../../x"]
)
def test_given_a_key_that_leaves_the_folder_then_it_is_refused(key: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="could leave"):
        local_places.LocalPlaces(tmp_path).path_of(key, 2)


@pytest.mark.parametrize("name", ["C:x", "CON", "nul.webm", "a.", "a ", "COM1.txt", ".hidden"])
def test_given_a_name_that_windows_reads_otherwise_then_it_becomes_harmless(
    name: str, tmp_path: Path
) -> None:
    path = local_places.LocalPlaces(tmp_path).path_of(f"p/{name}/x", 2)
    assert path.parent.parent == tmp_path
    assert path.parent.name != name


def test_given_names_that_become_the_same_then_the_second_is_refused(tmp_path: Path) -> None:
    places = local_places.LocalPlaces(tmp_path)
    places.path_of("p/a?b", 2)
    with pytest.raises(ValueError, match="is also that of 'p/a"):
        places.path_of("p/a*b", 2)


def test_case_sensitivity_is_detected_with_an_existing_name(tmp_path: Path) -> None:
    (tmp_path / "Name").write_bytes(b"")
    expected = (tmp_path / "nAME").exists()
    assert local_places.ignores_case(tmp_path) is expected
    assert local_places.ignores_case(tmp_path / "not" / "yet") is expected
