"""Put the example app into the wheel, where `careflow-storage demo --web` finds it."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ExampleApp(BuildHookInterface):
    """Adds files to wheels, but not to editable installs, which use the app in ``examples``."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the app to the files of a standard wheel."""
        if version == "standard":
            app = "recordings_app"
            build_data["force_include"][f"examples/{app}"] = f"careflow_storage/_examples/{app}"
