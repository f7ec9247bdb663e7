"""Stand-in for the owner's Bookmarks program, for the practice world only: a Flask application of the same name,
paths and variables. It sends nothing anywhere: what it would post to the webhook it only counts.
"""

import hmac
import os

from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue

app = Flask(__name__)
accepted = 0


@app.get("/")
def index() -> ResponseReturnValue:
    return "<!doctype html><html><head><title>Bookmarks</title></head><body><h1>Bookmarks</h1></body></html>"


@app.get("/health")
def health() -> ResponseReturnValue:
    return jsonify({"status": "ok", "service": "bookmarks"})


@app.post("/bookmark")
def bookmark() -> ResponseReturnValue:
    global accepted
    token = os.environ.get("BOOKMARKS_SECRET_TOKEN", "")
    sent = request.get_json(force=True, silent=True) or request.form
    if token and not hmac.compare_digest(str(sent.get("token")).encode(), token.encode()):
        return jsonify({"error": "Unauthorized"}), 401
    if not str(sent.get("url", "")).startswith(("http://", "https://")):
        return jsonify({"error": "URL is required"}), 400
    if not os.environ.get("MATTERMOST_WEBHOOK_URL"):
        return jsonify({"error": "Webhook not configured"}), 500
    accepted += 1
    return jsonify({"status": "success"})


@app.get("/_lab/version")
def version() -> ResponseReturnValue:
    return jsonify({"standin": "bookmarks", "version": "1.0.0", "accepted": accepted})
