"""pyinfra operations, in the order deploy.py uses them. Pure builders live in understudy/."""
