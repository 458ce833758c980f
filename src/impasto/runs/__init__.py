"""Run folders: log, checkpoints, previews, snapshots, and what is made from them."""
