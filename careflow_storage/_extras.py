"""What an extra of this package installs."""

from __future__ import annotations

import re
from importlib import metadata

_PACKAGE = "careflow-storage"
# Such as: typer>=0.26; extra == "cli"
_REQUIREMENT = re.compile(
    r"(?P<name>[\w.-]+)(?:\[(?P<extras>[^]]*)])?\s*(?P<bounds>[^;]*?)\s*;"
    r".*\bextra\s*==\s*[\"'](?P<extra>[\w-]+)[\"']"
)


def install_line(extra: str) -> str:
    """Return how to install an extra, also where no index has this package.

    The second line names the packages of the extra that are missing. Reads the metadata of
    installed packages.
    """
    line = f'pip install "{_PACKAGE}[{extra}]"'
    missing = " ".join(f'"{each}"' for each in _missing(extra))
    return f"{line}; where no index has it: pip install {missing}" if missing else line


def _missing(extra: str) -> list[str]:
    """Return the requirements of an extra, and of those it includes, that are not installed."""
    try:
        requirements = metadata.requires(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        # The code runs without being installed.
        return []
    found = []
    for each in map(_REQUIREMENT.match, requirements):
        if each is None or each["extra"] != extra:
            continue
        if each["name"] == _PACKAGE:
            for inner in each["extras"].split(","):
                found += _missing(inner.strip())
        elif not _is_installed(each["name"]):
            found.append(f"{each['name']}{each['bounds']}")
    return sorted(set(found))


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True
