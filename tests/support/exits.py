"""A module that ends the program that imports it."""

from __future__ import annotations

import sys

sys.exit(3)
