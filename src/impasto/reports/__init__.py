"""What is shown of the work: pictures side by side (``comparison``), a run as a page (``page``) and its ``curves``."""
