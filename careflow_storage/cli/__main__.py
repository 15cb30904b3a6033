"""``python -m careflow_storage.cli``, where the command is not on the PATH."""

from __future__ import annotations

from careflow_storage.cli import main

main()
