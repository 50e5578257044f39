"""Bodies that carry files: a form -> a `Call`. Its fields are read as strictly as JSON's; its files stay bytes and count by their size."""

from __future__ import annotations

from typing import Any

from gateway import multipart
from gateway.edge import FORBIDDEN_FIELDS, Call, Request, check_choices, check_model
from gateway.errors import BadRequest
from gateway.multipart import BadForm, Form

_WHOLE = frozenset({"n", "partial_images", "output_compression", "frame_count", "frame_duration_ms"})
MAX_IMAGES = 16


def read_edit(request: Request, body: bytes) -> Call:
    """OpenAI's image edits: `image` or `image[]`, a mask, a prompt."""
    form, fields = _read(request, body, files=("image", "image[]", "mask", "markup"))
    pictures = [part for part in form.files if part.name in ("image", "image[]")]
    if not 1 <= len(pictures) <= MAX_IMAGES:
        raise BadRequest(f"A form must have from 1 to {MAX_IMAGES} images.", param="image", code="invalid_image")
    fields["image_files"] = len(form.files)
    return _call(request, body, fields)


def read_variation(request: Request, body: bytes) -> Call:
    form, fields = _read(request, body, files=("image",))
    if len(form.files) != 1:
        raise BadRequest("A form must have one image.", param="image", code="invalid_image")
    fields["image_files"] = 1
    return _call(request, body, fields)


def read_audio(request: Request, body: bytes) -> Call:
    """OpenAI's transcriptions and translations: one file and how to write it down."""
    form, fields = _read(request, body, files=("file",))
    if len(form.files) != 1 or not form.files[0].size:
        raise BadRequest("A form must have one file that is not empty.", param="file", code="invalid_file")
    if any(name.startswith(("known_speaker_references", "file_url")) for name in fields):
        raise BadRequest(
            "Further sound beside the file is not offered: its length would be billed unseen.",
            param="known_speaker_references",
            code="field_not_allowed",
        )
    file = form.files[0]
    fields["file_bytes"] = file.size
    fields["audio"] = memoryview(body)[file.start : file.end]
    return _call(request, body, fields)


def _read(request: Request, body: bytes, *, files: tuple[str, ...]) -> tuple[Form, dict[str, Any]]:
    boundary = multipart.boundary_of(request.content_type) or b""
    try:
        form = multipart.parse(body, boundary)
    except BadForm as error:
        text = str(error)
        raise BadRequest(text[:1].upper() + text[1:] + ".", param=error.param, code="invalid_form") from None
    for part in form.parts:
        bare = part.name.partition("[")[0]
        if bare in FORBIDDEN_FIELDS:
            raise BadRequest(f"The field '{bare}' is not accepted in a call.", param=bare, code="field_not_allowed")
        if (part.filename is not None) != (part.name in files):
            raise BadRequest(
                f"'{part.name[:80]}' must {'' if part.name in files else 'not '}be a file.",
                param=part.name[:80],
                code="invalid_type",
            )
        if part.name != part.name.strip() or (f"{bare}[]" in form.lists and bare in form.texts):
            raise BadRequest(f"The form names the field '{bare[:80]}' twice.", param=bare[:80], code="invalid_form")
    fields: dict[str, Any] = {**form.texts, **form.lists}
    for name in _WHOLE & fields.keys():
        fields[name] = _whole(fields[name], name)
    if "stream" in fields:
        fields["stream"] = _true(fields["stream"])
    return form, fields


def _call(request: Request, body: bytes, fields: dict[str, Any]) -> Call:
    model = check_model(fields.get("model"))
    check_choices(fields)
    return Call(request, body, fields, model, fields.get("stream") is True)


def _whole(text: str, name: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise BadRequest(f"'{name}' must be a whole number.", param=name, code="invalid_value")
    return int(text)


def _true(text: str) -> bool:
    if text not in ("true", "false"):
        raise BadRequest("'stream' must be true or false.", param="stream", code="invalid_type")
    return text == "true"
