"""A web app for call recordings, made with FastAPI and careflow-storage. See README.md."""

from __future__ import annotations

from .app import create_app
from .config import AppSettings

__all__ = ["AppSettings", "create_app"]
