"""Signed links: getting them, and trying what they must not be good for."""

from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx2
from google.protobuf.duration_pb2 import Duration

from contentlab.gallery.v1 import gallery_service_pb2 as pb

BLOCK_BLOB = {"x-ms-blob-type": "BlockBlob"}
REFUSED = (403, 404)
"""Storage's answers to a signature that is for something else; 404 where it does not tell that the thing exists."""


async def link_to(user: Any, name: str, *, ttl: Duration | None = None, variant: int = 0) -> pb.AssetLink:
    """A link to an asset of the user."""
    request = pb.CreateAssetLinkRequest(name=name, ttl=ttl, variant=pb.Asset.Variant.ValueType(variant))
    link: pb.AssetLink = await user.stub.CreateAssetLink(request, metadata=user.metadata, timeout=60)
    return link


def elsewhere(uri: str, path: str, query: str = "") -> str:
    """The same signature on another path, with more parameters."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(path=path, query="&".join(filter(None, (query, parts.query)))))


async def cannot_do_anything_but_read(http: httpx2.AsyncClient, uri: str, other_id: str) -> None:
    """Tries the link's signature on everything else."""
    await _cannot_reach_others(http, uri, other_id)
    for method, query in (("PUT", ""), ("DELETE", ""), ("PUT", "comp=metadata"), ("PUT", "comp=block&blockid=MDA%3D")):
        answer = await http.request(method, elsewhere(uri, urlsplit(uri).path, query), headers=BLOCK_BLOB)
        assert answer.status_code in REFUSED, (method, query, answer.status_code)
    assert (await http.get(uri)).status_code == 200


async def cannot_do_anything_but_write(http: httpx2.AsyncClient, uri: str, other_id: str) -> None:
    """Tries the signature of an upload's link on everything else; something was PUT there before."""
    await _cannot_reach_others(http, uri, other_id)
    for method, query in (("GET", ""), ("HEAD", ""), ("DELETE", ""), ("GET", "comp=metadata")):
        answer = await http.request(method, elsewhere(uri, urlsplit(uri).path, query))
        assert answer.status_code in REFUSED, (method, query, answer.status_code)


async def _cannot_reach_others(http: httpx2.AsyncClient, uri: str, other_id: str) -> None:
    root = urlsplit(uri).path.rsplit("/", 2)[0]
    others = [f"{root}/{other_id}/original", f"{root}/{other_id}/asset.json", f"{root}/_staging/{other_id}"]
    for path in others:
        answers = [await http.get(elsewhere(uri, path)), await http.put(elsewhere(uri, path), headers=BLOCK_BLOB)]
        assert all(answer.status_code in REFUSED for answer in answers), (path, answers)
    for query in ("restype=container&comp=list", "restype=container"):
        answer = await http.get(elsewhere(uri, root, query))
        assert answer.status_code in REFUSED, (query, answer.status_code)
