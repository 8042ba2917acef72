"""Reports: numbers, tables and pictures, every bound rounded on the safe side."""
