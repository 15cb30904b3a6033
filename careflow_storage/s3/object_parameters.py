"""An object's headers, as botocore names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from careflow_storage._s3.headers.encryption import protection_parameters
from careflow_storage._s3.headers.metadata import META_PREFIX

_NAMES = {
    "content-type": "ContentType",
    "cache-control": "CacheControl",
    "content-disposition": "ContentDisposition",
    "content-encoding": "ContentEncoding",
    "content-language": "ContentLanguage",
    "expires": "Expires",
}


def object_parameters(headers: Mapping[str, str]) -> dict[str, Any]:
    """For CreateMultipartUpload and CopyObject."""
    parameters: dict[str, Any] = {
        parameter: headers[name] for name, parameter in _NAMES.items() if name in headers
    }
    parameters.update(protection_parameters(headers))
    parameters["Metadata"] = {
        name.removeprefix(META_PREFIX): value
        for name, value in headers.items()
        if name.startswith(META_PREFIX)
    }
    return parameters
