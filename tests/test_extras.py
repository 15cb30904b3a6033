"""How to install an extra: from an index, and where no index has this package."""

from __future__ import annotations

from importlib import metadata

import pytest

from careflow_storage import MissingExtraError
from careflow_storage._extras import install_line

REQUIREMENTS = [
    "aiohttp>=3.14.4",
    "rich>=13.9; extra == 'cli'",
    'typer>=0.26 ; extra == "cli"',
    "pytest>=8; extra == 'test'",
    "careflow-storage[cli,web]; extra == 'demo'",
    "wsproto (>=1.2) ; python_version >= '3.11' and extra == 'web'",
]


@pytest.fixture(params=[set(), {"rich"}, {"rich", "typer", "wsproto"}], ids=len)
def installed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The packages that are installed."""
    names: set[str] = request.param

    def distribution(name: str) -> None:
        if name not in names:
            raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", lambda _: REQUIREMENTS)
    monkeypatch.setattr(metadata, "distribution", distribution)
    return names


def test_the_line_names_the_packages_that_are_missing(installed: set[str]) -> None:
    packages = {"rich": "rich>=13.9", "typer": "typer>=0.26", "wsproto": "wsproto(>=1.2)"}
    missing = [packages[name] for name in sorted(packages) if name not in installed]
    line = install_line("demo")
    assert line.startswith('pip install "careflow-storage[demo]"')
    if missing:
        quoted = " ".join(f'"{each}"' for each in missing)
        assert line.endswith(f"; where no index has it: pip install {quoted}")
    else:
        assert line == 'pip install "careflow-storage[demo]"'
    assert str(MissingExtraError("demo").hint) == line


def test_code_that_is_not_installed_knows_no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    assert install_line("cli") == 'pip install "careflow-storage[cli]"'


def test_the_metadata_of_this_package_is_read() -> None:
    assert install_line("no-such-extra") == 'pip install "careflow-storage[no-such-extra]"'
    assert any("extra ==" in each for each in metadata.requires("careflow-storage") or [])
