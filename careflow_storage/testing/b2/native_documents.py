"""The documents of B2's native API that do not depend on what an account holds."""

from __future__ import annotations

from typing import Any, Final

# What a key may not read has this form (apidocs/b2-list-buckets).
UNREADABLE: Final = {"isClientAuthorizedToRead": False, "value": None}


def bucket_document(account_id: str, bucket_id: str, name: str) -> dict[str, Any]:
    """Return a private bucket without rules, as b2_list_buckets describes it."""
    return {
        "accountId": account_id,
        "bucketId": bucket_id,
        "bucketName": name,
        "bucketType": "allPrivate",
        "bucketInfo": {},
        "corsRules": [],
        "lifecycleRules": [],
        "options": ["s3"],
        "revision": 1,
        "defaultServerSideEncryption": UNREADABLE,
        "fileLockConfiguration": UNREADABLE,
        "replicationConfiguration": UNREADABLE,
    }


def storage_api_document(url: str) -> dict[str, Any]:
    """Return the part of b2_authorize_account's response that names the addresses and limits."""
    return {
        "apiUrl": url,
        "downloadUrl": url,
        "s3ApiUrl": url,
        "absoluteMinimumPartSize": 5_000_000,
        "recommendedPartSize": 100_000_000,
        "infoType": "storageApi",
    }
