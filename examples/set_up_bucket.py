"""Set up the bucket for an app, once or on every deployment, and say what it holds and costs.

    python examples/set_up_bucket.py https://app.example [https://staging.example ...]

The bucket of BACKBLAZE_BUCKET_NAME is created if it is not there; web pages of these origins may
upload to it and play from it; recordings are hidden after a year and erased a month later. What
is set already stays: other origins that may upload, and a lifecycle rule of the recordings. Run
again, it changes nothing. The application key needs writeBuckets, readBuckets, and the read and
write capabilities of bucket encryption and lifecycle rules.
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
        print(f"{bucket.name} is there")
    except NoSuchBucketError:
        bucket = await admin.create_bucket()
        print(f"{bucket.name} was created, private and encrypted")

    # A preset only adds: origins that are let in already stay.
    for rule in await admin.allow_browser_uploads(origins, preset="put"):
        print(f"{rule.name}: {', '.join(rule.allowed_methods)} from {rule.allowed_origins}")
    for origin in origins:
        response = await admin.check_cors(origin, "PUT", ["content-type"])
        print(f"{origin} {'may' if response.allowed else 'may not'} upload", *response.problems)

    # How long recordings are kept is not changed behind the back of the person who set it.
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
        print(f"{report.total.files} files, {report.total.billed_bytes} bytes are paid for:")
        print(f"{cost.here.total} {cost.here.currency} a month, at AWS {cost.there.total}")


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit(USAGE)
    try:
        asyncio.run(main(sys.argv[1:]))
    except StorageError as error:
        sys.exit(f"{type(error).__name__}: {error}")
