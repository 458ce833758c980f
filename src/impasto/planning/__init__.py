"""Work out sizes, memory and time before anything is painted."""
