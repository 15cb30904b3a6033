"""``python -m careflow_storage``, where the command is not on the PATH."""

from __future__ import annotations

from careflow_storage.cli import main

if __name__ == "__main__":
    main()
