"""What the routes get from the application."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from careflow_storage import BackblazeStorage
from careflow_storage.integrations.fastapi import get_storage

Storage = Annotated[BackblazeStorage, Depends(get_storage)]
