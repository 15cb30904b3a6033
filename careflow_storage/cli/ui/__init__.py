"""What the commands print, read and ask: output, help, options and prompts."""
