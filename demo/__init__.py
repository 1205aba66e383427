"""What only the demo needs: its model, from an npm package, and its reviews, from a Python package."""
