"""Files and tensors on disk: atomic writes, locks, file names, templates, tensors."""
