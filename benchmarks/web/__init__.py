"""A web app that passes recordings on, and the players and senders that it has."""
