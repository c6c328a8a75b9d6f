"""The FHIR package: everything we publish, with examples, as one file that FHIR tools load.

Its form is that of https://hl7.org/fhir/packages.html: a gzipped tar with a folder `package`.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from importlib.resources import files

import msgspec

from app import __version__, web
from app.asking import ASSESS_ELIGIBILITY, ASSESS_RESPONSE
from app.fhir.canonicals import BASE
from app.fhir.json import Json, encode
from app.operations import assessed, written
from app.publishing.definitions import definitions
from app.publishing.terminology import AID, DATE, PUBLISHER, defined
from app.web.stories import STORIES

NAME = "maa-assess.definitions"
FILE_NAME = f"{NAME}-{__version__}.tgz"
_FHIR = "4.0.1"
_LICENSE = "Apache-2.0"
_TITLE = "Aplastic anemia by blood counts"
_DESCRIPTION = (
    "Published definitions of moderate and severe aplastic anemia, and of the response to "
    "treatment, as PlanDefinition, CQL, Measure and terminology, with profiles of the assessments "
    f"that maa-assess gives, and examples of them. {AID}"
)
_DECODE = msgspec.json.Decoder(Json, float_hook=Decimal).decode
# What the index says of a resource, where it has it.
_INDEXED = ("id", "url", "version", "kind", "type", "supplements", "content")


def package() -> bytes:
    """The whole package; the same version of the service gives the same bytes."""
    published, shown = list(definitions().values()), list(_examples())
    published.append(_guide(published, shown))
    contents = {"package/package.json": _readable(_manifest())}
    for folder, resources in (("package", published), ("package/example", shown)):
        named = {f"{one['resourceType']}-{one['id']}.json": one for one in resources}
        contents[f"{folder}/.index.json"] = _readable(_index(named))
        contents |= {f"{folder}/{name}": encode(one) for name, one in named.items()}
    return _packed(contents)


def _manifest() -> Json:
    """What package.json says."""
    return {
        "name": NAME,
        "version": __version__,
        "title": _TITLE,
        "description": _DESCRIPTION,
        "type": "IG",
        "canonical": BASE,
        "url": BASE,
        "author": PUBLISHER,
        "license": _LICENSE,
        "date": DATE.replace("-", ""),
        "fhirVersions": [_FHIR],
        "dependencies": {"hl7.fhir.r4.core": _FHIR},
    }


def _index(named: Mapping[str, Json]) -> Json:
    """What .index.json says of the resources of its folder."""
    rows = [
        {"filename": name, "resourceType": one["resourceType"]}
        | {key: one[key] for key in _INDEXED if isinstance(one.get(key), str)}
        for name, one in named.items()
    ]
    return {"index-version": 2, "files": rows}


def _guide(published: Iterable[Json], shown: Iterable[Json]) -> Json:
    """The ImplementationGuide that lists what is in the package."""
    listed = [_listed(one, False) for one in published] + [_listed(one, True) for one in shown]
    return defined("ImplementationGuide", NAME, _TITLE, _DESCRIPTION) | {
        "name": "MaaAssess",
        "packageId": NAME,
        "license": _LICENSE,
        "fhirVersion": [_FHIR],
        "definition": {"resource": listed},
    }


def _listed(resource: Json, example: bool) -> Json:
    kind, name = resource["resourceType"], resource["id"]
    return {
        "reference": {"reference": f"{kind}/{name}"},
        "name": resource.get("title", name),
        "exampleBoolean": example,
    }


def _examples() -> Iterator[Json]:
    """The stories that the page offers, each with our answer to it."""
    for name, story in STORIES.items():
        data = (files(web) / "stories" / f"{name}.json").read_bytes()
        yield {**_DECODE(data), "id": name}
        operation = ASSESS_RESPONSE if story.question == "response" else ASSESS_ELIGIBILITY
        yield {**written(assessed(operation, data, ())), "id": f"{name}-answer"}


def _readable(value: Json) -> bytes:
    return msgspec.json.format(encode(value), indent=2) + b"\n"


def _packed(contents: Mapping[str, bytes]) -> bytes:
    """A gzipped tar of files that are of no time and nobody's."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", filename="", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()
