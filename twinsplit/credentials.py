"""Passwords in addresses, hidden wherever an address is shown."""

from __future__ import annotations

import re

_HIDDEN = "***"
_IN_USER_PART = re.compile(r"(://[^\s:@/?#'\"]*):[^\s'\"]*@")
"""Greedy: a password may hold what ends it by the rules, and is hidden all the same."""
_WITHOUT_HOST = re.compile(r"(://[^\s:@/?#\['\"]+):(?!\d+(?:[/?#,\s'\"]|$))[^\s/?#'\"]+(?=[/?#\s'\"]|$)")
"""``scheme://user:password`` whose host was forgotten: what follows the colon is no port."""
_IN_QUERY = re.compile(r"(?i)\b((?:ssl)?password\s*=\s*)[^&\s'\"]+")


def without_password(text: str) -> str:
    """``text`` with the password of every address in it replaced by ``***``."""
    text = _IN_USER_PART.sub(rf"\1:{_HIDDEN}@", text)
    if f":{_HIDDEN}@" not in text:
        text = _WITHOUT_HOST.sub(rf"\1:{_HIDDEN}", text)
    return _IN_QUERY.sub(rf"\1{_HIDDEN}", text)
