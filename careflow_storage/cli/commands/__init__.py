"""The commands: their arguments, options and help. They import nothing of the library."""
