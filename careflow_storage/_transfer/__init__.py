"""Moving bytes: uploads, downloads, live calls, copies."""
