"""Pictures answered by address: kept for a while and handed out once asked for."""

import base64
import secrets
from collections import OrderedDict

from starlette.requests import Request
from starlette.responses import Response

from emulator.errors import ApiError
from emulator.studio import Drawn

_MOST = 32


class Shelf:
    """The last pictures that were answered by address; older ones are gone."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[str, bytes]] = OrderedDict()

    def put(self, request: Request, output_format: str, picture: Drawn) -> str:
        """Keep a picture and answer its address."""
        name = f"b64{secrets.randbelow(10**9)}.{output_format}"
        self._kept[name] = (output_format, base64.b64decode(picture.b64))
        if len(self._kept) > _MOST:
            self._kept.popitem(last=False)
        return f"{request.url.scheme}://{request.url.netloc}{request.state.prefix}/generated-images/{name}"

    async def get(self, request: Request) -> Response:
        """GET /generated-images/NAME."""
        kept = self._kept.get(request.path_params["name"])
        if kept is None:
            raise ApiError(404, "Resource not found")
        return Response(kept[1], media_type=f"image/{kept[0]}")
