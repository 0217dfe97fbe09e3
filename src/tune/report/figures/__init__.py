"""Drawings as SVG, each a function of plain data. `canvas` gives axes in the one style, `svg` writes them down."""
