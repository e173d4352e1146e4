"""Refuse requests that another site made a browser send (CSRF).

A form carries a token: the HMAC of who asks and of a random session cookie that scripts and other
sites cannot read, under the server's secret key where it has one. Nothing is kept on the server, so
any of its workers can check it.
"""

import hashlib
import hmac
import re
import secrets
from urllib.parse import urlsplit

from flask import Response, current_app, g, request
from werkzeug.exceptions import Forbidden

COOKIE, FIELD = "mledit-session", "csrf"
_SESSION = re.compile(r"[A-Za-z0-9_-]{43}")
_AGAIN = "Load the page again, then send the form from there."


def token_for(user: str) -> str:
    """Return the token for the forms of a page, and begin a session where there is none."""
    if "mledit_session" not in g:
        g.mledit_session = _session() or secrets.token_urlsafe(32)
    return _token(g.mledit_session, user)


def keep_session(response: Response, *, path: str) -> None:
    """Set the cookie of a session that began with this answer."""
    session = g.get("mledit_session")
    if session is not None and session != _session():
        response.set_cookie(
            COOKIE, session, path=path, secure=request.is_secure, httponly=True, samesite="Strict"
        )


def came_from_here(user: str) -> bool:
    """Say whether a page of ours sent this request, and begin a session where there is none.

    For what changes nothing but costs work: browsers send the cookie of a session with no request
    that another site makes them send.
    """
    known = _session() is not None
    token_for(user)
    return known and _from_here()


def check_origin_and_token(user: str) -> None:
    """Refuse a request that no page of ours sent for this user.

    Raises:
        Forbidden: another site sent it, or its token is missing or wrong.
    """
    if not _from_here():
        raise Forbidden("This request came from another site.")
    session, given = _session(), request.form.getlist(FIELD)
    if session is None or len(given) != 1:
        raise Forbidden(f"The form carries no token of your session. {_AGAIN}")
    if not hmac.compare_digest(given[0].encode(), _token(session, user).encode()):
        raise Forbidden(f"The form's token is not of your session. {_AGAIN}")


def _session() -> str | None:
    cookie = request.cookies.get(COOKIE, "")
    return cookie if _SESSION.fullmatch(cookie) else None


def _token(session: str, user: str) -> str:
    key = current_app.secret_key or b""
    key = key.encode() if isinstance(key, str) else key
    return hmac.new(key, f"{session}:{user}".encode(), hashlib.sha256).hexdigest()


def _from_here() -> bool:
    """Judge by what browsers say of themselves; the token decides where they say nothing."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        return site in ("same-origin", "none") if request.method == "GET" else site == "same-origin"
    return origin is None or urlsplit(origin).netloc == request.host
