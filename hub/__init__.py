"""A model's weights: found on disk or in a hub's cache, downloaded, verified; never any code."""
