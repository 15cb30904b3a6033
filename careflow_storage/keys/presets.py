"""B2's capabilities, the presets of them, and the limits of a key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from careflow_storage._s3.requests.listing import checked_prefix
from careflow_storage.errors import InvalidInputError

Preset = Literal["uploader", "analytics", "app", "admin"]
"""A named set of capabilities for an application key."""

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
"""All capabilities that a key can have: docs/cloud-storage-application-key-capabilities on
www.backblaze.com, and the newer ones that b2_create_key of v4 accepts."""

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
"""The fewest capabilities that each kind of program needs.

========== ==================================== ============================================
preset     capabilities                         may, and may not
========== ==================================== ============================================
uploader   listBuckets, writeFiles              upload, in parts too, and hide; neither read
                                                nor list, so no ``overwrite=False`` (a HEAD),
                                                no ``resume=True`` and no
                                                ``abort_stale_uploads`` (listFiles)
analytics  listBuckets, listFiles, readFiles    list, read, presign downloads; change nothing
app        analytics and uploader together      all that `BackblazeStorage` does but erasing;
                                                a deleted file is hidden and can be restored
admin      app, listAllBucketNames,             all of ``storage.admin`` for its bucket: erase,
           deleteFiles, and read and write of   CORS, lifecycle, locks, encryption; neither
           the bucket's configuration, of       create keys, nor delete the bucket, nor
           retentions and of legal holds        bypassGovernance: pass these by name
========== ==================================== ============================================

All of them have ``listBuckets``: without it, B2 responds with 403 instead of 404 for a missing file
(kopia#5329), and HeadBucket fails (nextcloud/server#60791). It shows the key's own bucket only.
"""

_NAME = re.compile(r"[A-Za-z0-9-]{1,100}")
_LONGEST = timedelta(days=1000)


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """The capabilities, buckets, prefix and lifetime of a new key; None is no limit."""

    capabilities: frozenset[str]
    bucket_ids: tuple[str, ...] | None
    prefix: str | None
    lifetime: timedelta | None


def checked_capabilities(wanted: object) -> frozenset[str]:
    """Return the capabilities of a preset or of a list; refuse those that B2 lacks."""
    if isinstance(wanted, str):
        for preset, capabilities in PRESETS.items():
            if preset == wanted:
                return capabilities
        raise InvalidInputError(
            f"capabilities: there is no preset {wanted!r}.",
            hint=f"Use one of {', '.join(PRESETS)}, or pass a list of capabilities.",
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
    """Return the lifetime: 1 second to less than 1000 days; None is unlimited."""
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
    """Return the prefix that a key is limited to within its bucket; "" is no limit."""
    if not prefix and prefix != "":
        return None
    if checked_prefix(prefix) and bucket is None:
        raise InvalidInputError("prefix needs bucket: pass the bucket, too.")
    return prefix or None


def checked_grace(grace: object) -> timedelta | None:
    """Return how long a replaced key is kept; None is until `finish_rotation`."""
    if grace is None:
        return None
    if not isinstance(grace, timedelta) or not timedelta(0) <= grace < _LONGEST:
        raise InvalidInputError(
            f"grace must be a timedelta from zero to less than 1000 days, not {grace!r}."
        )
    return grace
