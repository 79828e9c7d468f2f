"""An upload form as it arrives: small fields are kept, the one file is passed on in pieces.

`python-multipart` does the parsing; never more than a chunk of the file is in memory. What
a field means is for the route to know.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from services.errors import InvalidRequest, Problem, UnsupportedMedia

FILE_FIELD = "file"
_MAX_FIELDS = 16
_MAX_FIELD_BYTES = 1024


@dataclass(frozen=True, slots=True)
class UploadForm:
    """The form without the file's bytes."""

    filename: str
    fields: dict[str, str]


async def read_upload(
    content_type: str, chunks: AsyncIterator[bytes], sink: Callable[[bytes], Awaitable[None]]
) -> UploadForm:
    """Read a form with one file, and pass its bytes to `sink`.

    Raises UnsupportedMedia unless the body is `multipart/form-data`, and InvalidRequest when
    it is malformed, lacks the file, or holds more than an upload can.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        raise UnsupportedMedia(
            f"an upload is multipart/form-data, not {content_type[:100] or 'without a type'!r}"
        )
    reading = _Reading()
    try:
        parser = MultipartParser(
            options.get(b"boundary", b""),
            {
                "on_part_begin": reading.part_begin,
                "on_header_field": reading.header_field,
                "on_header_value": reading.header_value,
                "on_header_end": reading.header_end,
                "on_headers_finished": reading.headers_finished,
                "on_part_data": reading.part_data,
                "on_part_end": reading.part_end,
                "on_end": reading.end,
            },
        )
        async for chunk in chunks:
            parser.write(chunk)
            for piece in reading.take():
                await sink(piece)
        parser.finalize()
    except FormParserError as error:
        raise _malformed(f"the form is malformed: {error}") from None
    if not reading.ended:
        raise _malformed("the form is malformed: it ends before its closing boundary")
    if reading.filename is None:
        raise _malformed("the form has no file: send it as the part `file`, with a file name")
    return UploadForm(reading.filename, reading.fields)


class _Reading:
    """The parser's callbacks, and what they have seen."""

    def __init__(self) -> None:
        self.filename: str | None = None
        self.fields: dict[str, str] = {}
        self.ended = False
        self._pieces: list[bytes] = []
        self._header = bytearray()
        self._value = bytearray()
        self._disposition = b""
        self._field: str | None = None
        self._data = bytearray()

    def take(self) -> list[bytes]:
        pieces, self._pieces = self._pieces, []
        return pieces

    def part_begin(self) -> None:
        self._disposition, self._field = b"", None
        self._data.clear()

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def headers_finished(self) -> None:
        kind, options = parse_options_header(self._disposition)
        if kind != b"form-data" or b"name" not in options:
            raise _malformed("the form is malformed: a part has no name")
        name = _text(options[b"name"], "a part's name")
        if b"filename" not in options:
            self._begin_field(name)
            return
        if name != FILE_FIELD:
            raise InvalidRequest([Problem(name, "is a file; the file to upload is called `file`")])
        if self.filename is not None:
            raise _malformed("one file is uploaded at a time; the form has several")
        self.filename = _text(options[b"filename"], "the file's name")

    def _begin_field(self, name: str) -> None:
        if name == FILE_FIELD:
            raise _malformed("has no file name: send it as a file, not as a plain field")
        if name in self.fields:
            raise InvalidRequest([Problem(name, "stands twice in the form")])
        if len(self.fields) >= _MAX_FIELDS:
            raise _malformed(f"the form has more than {_MAX_FIELDS} fields")
        self._field = name

    def part_data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self._pieces.append(data[start:end])
            return
        self._data += data[start:end]
        if len(self._data) > _MAX_FIELD_BYTES:
            raise InvalidRequest([Problem(self._field, f"is longer than {_MAX_FIELD_BYTES} bytes")])

    def part_end(self) -> None:
        if self._field is not None:
            self.fields[self._field] = _text(bytes(self._data), f"the field {self._field}")

    def end(self) -> None:
        self.ended = True


def _text(raw: bytes, what: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise _malformed(f"{what} is not UTF-8") from None


def _malformed(message: str) -> InvalidRequest:
    return InvalidRequest([Problem(FILE_FIELD, message)])
