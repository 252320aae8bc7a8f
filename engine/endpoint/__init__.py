"""One HTTP call to the partner's API, and what its answer means."""
