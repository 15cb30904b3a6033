"""Change the core a little, run the tests, and list the changes that no test notices."""
