"""Run folders: log, checkpoints, previews, snapshots, and what is made from them."""

CHECKPOINT_SECONDS = 30.0  # between two saved states: a power cut loses no more than this
