"""Integrations with frameworks. Each module needs the extra that its documentation names."""
