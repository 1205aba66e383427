"""Instructions injected into reviews: how far a model obeys them."""
