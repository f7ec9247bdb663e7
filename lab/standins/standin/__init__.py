"""Programs that stand in for applications the lab cannot have. None of them is the real one.

Each keeps the real one's port, data layout, secrets, health path and first-start behaviour, and adds three
paths of the lab: POST /_lab/commit, GET /_lab/rows and GET /_lab/version.
"""
