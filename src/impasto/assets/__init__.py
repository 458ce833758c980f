"""Files that are fetched: network weights and museum paintings, pinned by hash."""
