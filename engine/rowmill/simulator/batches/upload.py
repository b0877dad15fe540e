"""The form of an upload, read in pieces: a file of 200 MB goes to the disk and never lies in memory."""

import asyncio
import re

import msgspec
from aiohttp import BodyPartReader, web

from rowmill.simulator.batches.storage import Writing
from rowmill.simulator.replies import RequestError

UPLOAD_BYTES = 512 * 1024 * 1024  # of one file
_PIECE = 256 * 1024
_FIELD_BYTES = 4096  # of a field of the form that is no file
_EXPIRY = re.compile(r"[0-9]{1,7}")
_LEAST_S, _MOST_S = 3600, 2_592_000  # of a file's life


class UploadForm(msgspec.Struct):
    """What the form said beside the file."""

    filename: str
    purpose: str
    life_s: int | None


async def receive(request: web.BaseRequest, writing: Writing) -> UploadForm:
    """Write the file of a form. Raises `RequestError`, or ConnectionError where the sender left."""
    if not request.content_type.startswith("multipart/"):
        raise RequestError(400, "The request must be a form: multipart/form-data.")
    filename: str | None = None
    fields: dict[str, str] = {}
    try:
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            if not isinstance(part, BodyPartReader):
                raise RequestError(400, "A part of the form is a form of its own.")
            if part.name == "file":
                filename = part.filename or "upload"
                await _store(part, writing)
            else:
                fields[part.name or ""] = await _text(part)
    except (ValueError, web.RequestPayloadError) as error:
        raise RequestError(400, f"The form cannot be read: {error}") from None
    if filename is None:
        raise RequestError(400, "'file' is a required property", param="file")
    return _checked(filename, fields)


async def _store(part: BodyPartReader, writing: Writing) -> None:
    while piece := await part.read_chunk(_PIECE):
        writing.write(piece)
        if writing.size > UPLOAD_BYTES:
            raise RequestError(413, f"A file may have at most {UPLOAD_BYTES} bytes.", param="file")
        # What has arrived already is handed out without waiting: others would wait for the end of a fast upload.
        await asyncio.sleep(0)


async def _text(part: BodyPartReader) -> str:
    data = bytearray()
    while piece := await part.read_chunk():
        data += piece
        if len(data) > _FIELD_BYTES:
            raise RequestError(400, "A field of the form is too long.", param=part.name)
    return data.decode()


def _checked(filename: str, fields: dict[str, str]) -> UploadForm:
    purpose = fields.get("purpose")
    if not purpose:
        raise RequestError(400, "'purpose' is a required property", param="purpose")
    if purpose == "batch" and not filename.endswith(".jsonl"):
        raise RequestError(400, "Invalid file format for Batch API. Must be .jsonl")
    life = fields.get("expires_after[seconds]")
    if life is not None and not (_EXPIRY.fullmatch(life) and _LEAST_S <= int(life) <= _MOST_S):
        message = f"Invalid 'expires_after.seconds': expected {_LEAST_S} to {_MOST_S}, but got {life}."
        raise RequestError(400, message, param="expires_after")
    return UploadForm(filename, purpose, None if life is None else int(life))
