"""First on the path, this stands for a machine without the cloudflare SDK: only what moves traffic may miss it."""

raise ModuleNotFoundError("No module named 'cloudflare'", name="cloudflare")
