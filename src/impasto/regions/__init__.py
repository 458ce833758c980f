"""Parts of a photo that are treated in their own way: faces."""
