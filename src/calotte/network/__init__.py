"""Networks: the piecewise-linear graph, its loaders, random networks."""
