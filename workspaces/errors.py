"""The errors of workspaces: one family, each with its status, a stable code and a hint for people. Other apps may join it."""

from __future__ import annotations

from http import HTTPStatus


class Refused(Exception):
    """Something a person asked for is not possible. `str()` is a sentence for them; `code` is stable; `field` names a form field."""

    status = HTTPStatus.BAD_REQUEST
    code = "refused"

    def __init__(self, message: str, *, field: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.field = field
        self.hint = hint


class Invalid(Refused):
    code = "invalid"


class Taken(Refused):
    status = HTTPStatus.CONFLICT
    code = "taken"


class NotAllowed(Refused):
    status = HTTPStatus.FORBIDDEN
    code = "not_allowed"


class NotThere(Refused):
    status = HTTPStatus.NOT_FOUND
    code = "not_found"


class WrongState(Refused):
    status = HTTPStatus.CONFLICT
    code = "wrong_state"
