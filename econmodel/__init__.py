"""Small models of the economics of AI inference, confronted with measured data."""
