"""First on the path, this stands for a machine without the hcloud SDK: only what moves traffic may miss it."""

raise ModuleNotFoundError("No module named 'hcloud'", name="hcloud")
