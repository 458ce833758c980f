"""Files and tensors on disk: atomic writes, locks, names, tensors."""
