"""Set up the bucket for an app, once or on every deployment, and print its usage and cost.

    python examples/set_up_bucket.py https://app.example [https://staging.example ...]

Creates the bucket of BACKBLAZE_BUCKET_NAME if it does not exist. Allows web pages of these origins
to upload and play. Hides recordings after a year and erases them a month later. Existing settings
stay: other origins, and a lifecycle rule of the recordings. A second run changes nothing. The
application key needs writeBuckets, readBuckets, and the read and write capabilities of bucket
encryption and lifecycle rules.
"""

from __future__ import annotations

import asyncio
import sys

from careflow_storage import BackblazeStorage, NoSuchBucketError, StorageError
from careflow_storage.admin import LifecycleRule, StorageAdmin
from careflow_storage.usage import compare

USAGE = (
    "usage: python examples/set_up_bucket.py ORIGIN [ORIGIN ...]   (such as https://app.example)"
)
PREFIX = "recordings/"


async def set_up(admin: StorageAdmin, origins: list[str]) -> None:
    try:
        bucket = await admin.head_bucket()
        print(f"{bucket.name} exists")
    except NoSuchBucketError:
        bucket = await admin.create_bucket()
        print(f"{bucket.name} was created, private and encrypted")

    # A preset only adds: existing origins stay allowed.
    for rule in await admin.allow_browser_uploads(origins, preset="put"):
        print(f"{rule.name}: {', '.join(rule.allowed_methods)} from {rule.allowed_origins}")
    for origin in origins:
        response = await admin.check_cors(origin, "PUT", ["content-type"])
        print(f"{origin} {'may' if response.allowed else 'may not'} upload", *response.problems)

    # An existing rule for the recordings is not changed.
    rules = await admin.get_lifecycle_rules()
    if not any(rule.prefix == PREFIX for rule in rules):
        rules = await admin.expire_recordings(
            hide_after_days=365, erase_after_days=30, prefix=PREFIX
        )
    for kept in rules:
        print(f"{kept.prefix or 'everything'}: {in_words(kept)}")


def in_words(rule: LifecycleRule) -> str:
    clocks = {
        "hidden {} days after upload": rule.hide_after_days,
        "erased {} days after being hidden": rule.erase_after_days,
        "unfinished uploads aborted after {} days": rule.cancel_unfinished_after_days,
    }
    said = [text.format(days) for text, days in clocks.items() if days is not None]
    return ", ".join([*said, *rule.unsupported])


async def main(origins: list[str]) -> None:
    async with BackblazeStorage() as storage:
        await set_up(storage.admin, origins)
        report = await storage.admin.usage()
        cost = compare(report)
        print(f"{report.total.files} files, {report.total.billed_bytes} billed bytes:")
        print(f"{cost.here.total} {cost.here.currency} a month, at AWS {cost.there.total}")


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit(USAGE)
    try:
        asyncio.run(main(sys.argv[1:]))
    except StorageError as error:
        sys.exit(f"{type(error).__name__}: {error}")
