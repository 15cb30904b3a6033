"""What a key may be given: B2's capabilities, the presets of them, and the limits of a key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from careflow_storage._s3.listing import checked_prefix
from careflow_storage.errors import InvalidInputError

Preset = Literal["uploader", "analytics", "app", "admin"]

CAPABILITIES: Final = frozenset(
    {
        *("listKeys", "writeKeys", "deleteKeys", "listBuckets", "listAllBucketNames"),
        *("readBuckets", "writeBuckets", "deleteBuckets", "readBucketEncryption"),
        *("writeBucketEncryption", "readBucketRetentions", "writeBucketRetentions"),
        *("readBucketReplications", "writeBucketReplications", "readBucketNotifications"),
        *("writeBucketNotifications", "readBucketLogging", "writeBucketLogging"),
        *("readBucketLifecycleRules", "writeBucketLifecycleRules", "listFiles", "readFiles"),
        *("shareFiles", "writeFiles", "deleteFiles", "readFileLegalHolds"),
        *("writeFileLegalHolds", "readFileRetentions", "writeFileRetentions"),
        "bypassGovernance",
    }
)
"""All that B2 can give to a key: docs/cloud-storage-application-key-capabilities on
www.backblaze.com, and the newer ones that b2_create_key of v4 takes."""

_APP = ("listBuckets", "listFiles", "readFiles", "writeFiles")

PRESETS: Final[Mapping[Preset, frozenset[str]]] = {
    "uploader": frozenset({"listBuckets", "writeFiles"}),
    "analytics": frozenset({"listBuckets", "listFiles", "readFiles"}),
    "app": frozenset(_APP),
    "admin": frozenset(
        {
            *_APP,
            *("listAllBucketNames", "deleteFiles", "readBuckets", "writeBuckets"),
            *("readBucketEncryption", "writeBucketEncryption"),
            *("readBucketLifecycleRules", "writeBucketLifecycleRules"),
            *("readBucketRetentions", "writeBucketRetentions"),
            *("readFileRetentions", "writeFileRetentions"),
            *("readFileLegalHolds", "writeFileLegalHolds"),
        }
    ),
}
"""The least that each kind of program needs.

========== ==================================== ============================================
preset     capabilities                         may, and may not
========== ==================================== ============================================
uploader   listBuckets, writeFiles              upload, in parts too, and hide; neither read
                                                nor list, so no ``overwrite=False`` (a HEAD),
                                                no ``resume=True`` and no
                                                ``abort_stale_uploads`` (listFiles)
analytics  listBuckets, listFiles, readFiles    list, read, presign downloads; change nothing
app        analytics and uploader together      all that `BackblazeStorage` does but erasing;
                                                a deleted file is hidden and can come back
admin      app, listAllBucketNames,             all of ``storage.admin`` for its bucket: erase,
           deleteFiles, and read and write of   CORS, lifecycle, locks, encryption; neither
           the bucket's configuration, of       make keys, nor delete the bucket, nor
           retentions and of legal holds        bypassGovernance: ask for these by name
========== ==================================== ============================================

``listBuckets`` is in all of them, since without it B2 responds with 403 for a missing file, not 404
(kopia#5329), and HeadBucket fails (nextcloud/server#60791). It tells about the key's own
bucket only.
"""

_NAME = re.compile(r"[A-Za-z0-9-]{1,100}")
_LONGEST = timedelta(days=1000)


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """What a new key may do, where, and for how long; None: without a limit."""

    capabilities: frozenset[str]
    bucket_ids: tuple[str, ...] | None
    prefix: str | None
    lifetime: timedelta | None


def checked_capabilities(wanted: object) -> frozenset[str]:
    """Return the capabilities of a preset, or those that are listed, if B2 has them."""
    if isinstance(wanted, str):
        for preset, capabilities in PRESETS.items():
            if preset == wanted:
                return capabilities
        raise InvalidInputError(
            f"capabilities: there is no preset {wanted!r}.",
            hint=f"There are {', '.join(PRESETS)}; or give a list of capabilities.",
        )
    if not isinstance(wanted, Iterable):
        raise InvalidInputError(f"capabilities must be a preset or a list, not {wanted!r}.")
    found = list(wanted)
    for index, each in enumerate(found):
        if not isinstance(each, str) or each not in CAPABILITIES:
            raise InvalidInputError(
                f"capabilities[{index}]: B2 has no capability {each!r}.",
                hint=f"It has {', '.join(sorted(CAPABILITIES))}.",
            )
    if not found:
        raise InvalidInputError("capabilities must not be empty.")
    return frozenset(found)


def checked_name(name: object) -> str:
    """Return a key's name: 1 to 100 letters, digits and hyphens (apidocs/b2-create-key)."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInputError(
            f"name must be 1 to 100 letters, digits and hyphens, not {name!r}.",
        )
    return name


def checked_lifetime(expires_in: object) -> timedelta | None:
    """Return how long a key lives: at least a second, less than 1000 days; None: for ever."""
    if expires_in is None:
        return None
    if not isinstance(expires_in, timedelta):
        raise InvalidInputError(f"expires_in must be a timedelta, not {expires_in!r}.")
    if not timedelta(seconds=1) <= expires_in < _LONGEST:
        raise InvalidInputError(
            f"expires_in must be at least 1 second and less than 1000 days, not {expires_in}."
        )
    return expires_in


def checked_key_prefix(prefix: str | None, bucket: str | None) -> str | None:
    """Return what a key is limited to within its bucket; "" is no limit."""
    if not prefix and prefix != "":
        return None
    if checked_prefix(prefix) and bucket is None:
        raise InvalidInputError("prefix: give the bucket in which it is, too.")
    return prefix or None


def checked_grace(grace: object) -> timedelta | None:
    """Return how long a rotated key is kept; None: until it is told."""
    if grace is None:
        return None
    if not isinstance(grace, timedelta) or not timedelta(0) <= grace < _LONGEST:
        raise InvalidInputError(
            f"grace must be a timedelta from zero to less than 1000 days, not {grace!r}."
        )
    return grace
