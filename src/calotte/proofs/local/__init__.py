"""Local: the small network of the units that noise may switch, bounded over many regions of the noise."""
