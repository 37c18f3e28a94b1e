"""What all studies share: options, the grid of points, where points are computed and kept, tables
and pictures."""
