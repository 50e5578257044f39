"""How the simulator counts. Its own simple rule: a token is up to four UTF-8 bytes, so tokens never outnumber bytes."""

from __future__ import annotations

BYTES_PER_TOKEN = 4
IMAGE_TOKENS = 85


def count(utf8_bytes: int) -> int:
    """Input tokens of a text of this many bytes."""
    return (utf8_bytes + BYTES_PER_TOKEN - 1) // BYTES_PER_TOKEN


def count_image(url: str) -> int:
    """Input tokens of an image, by the length of its URL or data URL, never more than one low-detail tile."""
    return min(IMAGE_TOKENS, count(len(url.encode())))


def pieces(text: str) -> list[str]:
    """A text cut into its output tokens: greedily four bytes each, never through a character."""
    if text.isascii():
        return [text[at : at + BYTES_PER_TOKEN] for at in range(0, len(text), BYTES_PER_TOKEN)]
    cut: list[str] = []
    piece, size = "", 0
    for character in text:
        width = len(character.encode("utf-8", "surrogatepass"))
        if size + width > BYTES_PER_TOKEN:
            cut.append(piece)
            piece, size = "", 0
        piece += character
        size += width
    return [*cut, piece] if piece else cut
