"""Files that are fetched when they are first needed: network weights and museum paintings."""
