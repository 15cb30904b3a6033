"""TLS contexts: for the S3 server, and for a proxy or the source of an upload."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from careflow_storage.settings import StorageSettings


def tls_context(settings: StorageSettings) -> ssl.SSLContext:
    """Verify certificates and host names; there is no setting that turns this off.

    Without a CA file the system's authorities count, or those of ``SSL_CERT_FILE``.
    """
    context = ssl.create_default_context(cafile=settings.ca_file)
    context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
    return context


def tls_of_others(settings: StorageSettings) -> ssl.SSLContext:
    """Verify a proxy or a source by the system's authorities, and by those of the settings, too."""
    context = ssl.create_default_context()
    if settings.ca_file is not None:
        context.load_verify_locations(settings.ca_file)
    return context
