"""PNG and JPEG bodies, alone or as parts of a form, to arrays as the model takes them."""

from collections.abc import Mapping

import numpy as np

from tutelage.core.errors import DataError, NotInstalled
from tutelage.deployment.raw_images import decode
from tutelage.deployment.serving.decoding import Asked
from tutelage.deployment.serving.model import Stated
from tutelage.deployment.serving.refused import Refused

_CHANNELS = (1, 3)


def read_image(body: bytes, inputs: Mapping[str, Stated]) -> Asked:
    """One image file.

    Raises:
        Refused: 422: it is none, too large, or the model does not take images.
    """
    name, stated = _taken(inputs)
    return Asked({name: _pixels(body, stated)[None]})


def read_form(body: bytes, kind: str, inputs: Mapping[str, Stated], most: int) -> Asked:
    """Images as the files of a form (``multipart/form-data``), in their order.

    Args:
        body: The form.
        kind: Its content type, which names the boundary.
        inputs: What the model takes.
        most: Images of one request.

    Raises:
        Refused: 400 for a broken form, 413 for too many images, 422 for what is no image.
    """
    name, stated = _taken(inputs)
    parts = _parts(body, kind, most)
    if not parts:
        raise Refused(422, "the form holds no file.")
    arrays = [_pixels(part, stated) for part in parts]
    return Asked({name: np.stack(arrays)})


def _taken(inputs: Mapping[str, Stated]) -> tuple[str, Stated]:
    ((name, stated), *more) = inputs.items()
    if more or len(stated.shape) != 3 or stated.range is None or stated.shape[0] not in _CHANNELS:
        raise Refused(415, "this model does not take image files: send application/json.")
    return name, stated


def _pixels(content: bytes, stated: Stated) -> np.ndarray:
    try:
        found = decode(content, {"shape": list(stated.shape), "range": stated.range})
    except DataError as error:
        raise Refused(422, str(error)) from error
    wanted = np.dtype(stated.dtype)
    return found if wanted.kind == "f" else found.round().astype(wanted)


def _parts(body: bytes, kind: str, most: int) -> list[bytes]:
    try:
        from python_multipart.exceptions import FormParserError
        from python_multipart.multipart import MultipartParser, parse_options_header
    except ImportError as error:
        raise NotInstalled('forms need python-multipart: pip install "tutelage[serve]"') from error
    boundary = parse_options_header(kind)[1].get(b"boundary")
    if not boundary:
        raise Refused(400, "the form's content type names no boundary.")
    parts: list[bytearray] = []
    ended: list[bool] = []

    def begin() -> None:
        if len(parts) == most:
            raise Refused(413, f"more than {most} images in one request.")
        parts.append(bytearray())

    def more(data: bytes, start: int, end: int) -> None:
        parts[-1] += data[start:end]

    try:
        parser = MultipartParser(
            boundary,
            {"on_part_begin": begin, "on_part_data": more, "on_end": lambda: ended.append(True)},
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Refused(400, "the form is broken: its parts do not end as it says.") from error
    if not ended:
        raise Refused(400, "the form is broken: it does not end.")
    return [bytes(part) for part in parts]
