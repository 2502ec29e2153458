"""What can be said of networks, data and results without training: counts, errors, correlations, curves."""
