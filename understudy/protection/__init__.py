"""What is protected, where to, and how often: from the catalogue to the host's protection plan.

Everything here is pure. agent/data/plan.py reads what plan.py here writes; files.py adds it to a host's tree.
"""
