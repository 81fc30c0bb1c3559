"""How tables look in a notebook. Colours come from the notebook, so that they suit a light and a dark theme."""

TABLE = '<table style="border-collapse:collapse;margin:8px 0;color:inherit;background:transparent">'
NAME = "text-align:left;padding:2px 8px;color:inherit"
CELL = "text-align:right;padding:2px 8px;color:inherit"
