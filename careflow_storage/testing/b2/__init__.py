"""The emulator of Backblaze B2."""
