"""Pages about a node for a browser: what they show, and who may see it. Nothing here changes anything."""
