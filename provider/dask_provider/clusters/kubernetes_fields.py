"""What Kubernetes accepts: quantities, names, labels, volumes. Each check leaves what is still a template alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dask_provider.clusters.checks import check_list, check_mapping, check_text
from dask_provider.errors import InvalidInput
from dask_provider.units import is_template

#: requests and limits by resource name, as a container has them
Resources = dict[str, dict[str, str]]

_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_DNS_LABEL = re.compile(_LABEL)
_SUBDOMAIN = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_KEY_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?:(?:localhost|(?=[^/]*[.:])[A-Za-z0-9][-A-Za-z0-9.]*)(?::\d+)?/)?{_PART}(?:/{_PART})*"
    r"(?::\w[\w.-]{0,127})?(?:@[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-fA-F]{32,})?"
)
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_DECIMAL = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50}
#: Kubernetes' own units, and those that people write: "4 GiB", "500 MB"
_BYTES = {
    "": 1,
    "B": 1,
    **_DECIMAL,
    "K": 1000,
    **{f"{unit.upper()}B": size for unit, size in _DECIMAL.items()},
    "kB": 1000,
    **_BINARY,
    **{f"{unit}B": size for unit, size in _BINARY.items()},
}
#: what Kubernetes opens on nodes, unless its administrator says otherwise
NODE_PORTS = range(30000, 32768)
_REFERENCES = ("secretRef", "configMapRef")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def check_name(field: str, value: object) -> None:
    """A namespace, volume or container: a DNS label."""
    check_text(field, value, _DNS_LABEL, 'a DNS label: at most 63 of a-z, 0-9 and "-", no "-" at either end')


def check_object_name(field: str, value: object) -> None:
    """A Secret, ConfigMap or service account: a DNS subdomain."""
    check_text(field, value, _SUBDOMAIN, 'the name of an object: at most 253 of a-z, 0-9, "-" and "."')


def check_image(field: str, value: object) -> None:
    """An image reference with its tag or digest."""
    check_text(field, value, _IMAGE, 'an image like "ghcr.io/acme/etl:1f3c2a9", its name in lower case')


def check_labels(field: str, value: object, *, annotations: bool = False) -> None:
    """Labels of objects or nodes, or annotations, whose values are any text."""
    for key, text in check_mapping(field, value).items():
        prefix, slash, name = key.rpartition("/")
        if not is_template(key) and (not _KEY_NAME.fullmatch(name) or (slash and not _SUBDOMAIN.fullmatch(prefix))):
            raise InvalidInput(field, key, 'keys like "team" or "example.com/team", the part after "/" at most 63 long')
        fits = isinstance(text, str) and (annotations or is_template(text) or not text or _KEY_NAME.fullmatch(text))
        if not fits:
            what = "text" if annotations else 'text of at most 63 letters, digits, "-", "_" and "."'
            raise InvalidInput(field, {key: text}, f"{what} as the value (quoted: true and 1 are no text)")


def parse_node_port(field: str, value: object) -> int:
    """:raises InvalidInput: when it is no port that Kubernetes opens on nodes."""
    if isinstance(value, bool) or not str(value).isdecimal() or int(str(value)) not in NODE_PORTS:
        raise InvalidInput(field, value, f"a port from {NODE_PORTS[0]} to {NODE_PORTS[-1]}")
    return int(str(value))


def check_tolerations(field: str, value: object) -> None:
    """Tolerations as in a pod."""
    known = ("key", "operator", "value", "effect", "tolerationSeconds")
    for item in check_list(field, value):
        entry = check_mapping(field, item)
        if not set(entry) <= set(known):
            raise InvalidInput(field, dict(entry), f"the keys {', '.join(known)}")
        for key, allowed in (("operator", ("Equal", "Exists")), ("effect", _EFFECTS)):
            if key in entry and not is_template(entry[key]) and entry[key] not in allowed:
                raise InvalidInput(field, dict(entry), f"{key} one of {', '.join(allowed)}")


def check_affinity(field: str, value: object) -> None:
    """Affinity as in a pod; what is inside is left to the API server."""
    known = ("nodeAffinity", "podAffinity", "podAntiAffinity")
    if not set(check_mapping(field, value)) <= set(known):
        raise InvalidInput(field, value, f"the keys {', '.join(known)}")


def check_env_from(field: str, value: object) -> None:
    """Secrets and ConfigMaps whose entries become environment variables."""
    for item in check_list(field, value):
        entry = check_mapping(field, item)
        kind = next((name for name in _REFERENCES if name in entry), None)
        if kind is None or not set(entry) <= {kind, "prefix"}:
            raise InvalidInput(field, dict(entry), 'entries like {"secretRef": {"name": "db"}} or with configMapRef')
        check_object_name(field, check_mapping(field, entry[kind]).get("name"))


def check_volumes(field: str, value: object, mounts_field: str, mounts: object, ours: Mapping[str, str]) -> None:
    """Volumes with one source each, and mounts that belong to them; none of either is left over.

    :param ours: mount paths by volume name that jobs use themselves.
    """
    names: set[str] = set()
    for item in check_list(field, value):
        entry = check_mapping(field, item)
        name, sources = entry.get("name"), sorted(set(entry) - {"name"})
        check_name(f"{field}[].name", name)
        if len(sources) != 1 or name in ours or name in names:
            raise InvalidInput(
                field, dict(entry), 'one source each, {"name": "data", "persistentVolumeClaim": {...}}; names once'
            )
        names.add(str(name))
    mounted: set[str] = set()
    for item in check_list(mounts_field, mounts):
        entry = check_mapping(mounts_field, item)
        name, path = entry.get("name"), entry.get("mountPath")
        if name not in names and not is_template(name):
            raise InvalidInput(mounts_field, dict(entry), f"the name of a volume: {', '.join(sorted(names)) or 'none'}")
        if not is_template(path) and (not isinstance(path, str) or path[:1] != "/" or path in ours.values()):
            raise InvalidInput(
                mounts_field, dict(entry), f"an absolute mountPath, other than {', '.join(ours.values())}"
            )
        mounted.add(str(name))
    if unused := sorted(names - mounted):
        raise InvalidInput(field, unused[0], f"volumes that an entry of {mounts_field} mounts")


def parse_resources(field: str, value: object) -> Resources:
    """``{"cpu": 1, "memory": "4 GiB"}`` (requests and limits alike), or the two apart -> both, as Kubernetes writes it.

    :raises InvalidInput: for unknown resources, units, and requests above their limits.
    """
    given = check_mapping(field, value)
    apart = set(given) & {"requests", "limits"}
    if apart and not set(given) <= {"requests", "limits"}:
        raise InvalidInput(field, dict(given), 'either resources, or "requests" and "limits", not both')
    parts = (
        {part: given.get(part, {}) for part in ("requests", "limits")}
        if apart
        else dict.fromkeys(("requests", "limits"), given)
    )
    sizes: dict[str, dict[str, Any]] = {
        part: {
            name: _size(f"{field}[{name!r}]", name, amount) for name, amount in check_mapping(field, part_of).items()
        }
        for part, part_of in parts.items()
    }
    for name, least in sizes["requests"].items():
        most = sizes["limits"].get(name)
        if isinstance(least, int) and isinstance(most, int) and least > most:
            raise InvalidInput(f"{field}[{name!r}]", dict(given), "requests that are not above the limits")
    return {part: {name: _written(name, size) for name, size in of.items()} for part, of in sizes.items()}


def quantity_bytes(text: str) -> int:
    """Bytes of a memory quantity that :func:`parse_resources` wrote."""
    size = _size("memory", "memory", text)
    assert isinstance(size, int)
    return size


def memory_quantity(size: int) -> str:
    """Bytes as Kubernetes writes them, the shortest way: ``4294967296`` -> ``"4Gi"``, ``500000000`` -> ``"500M"``."""
    units = {"": 1, **_BINARY, **_DECIMAL}
    return min((f"{size // factor}{unit}" for unit, factor in units.items() if size % factor == 0), key=len)


def _is_memory(name: str) -> bool:
    return name in ("memory", "ephemeral-storage") or name.startswith("hugepages-")


def _size(field: str, name: str, amount: object) -> int | str:
    """Thousandths of a CPU, bytes, or pieces; a template stays as it is.

    Not ``units.parse_bytes``: here ``500m`` is a thousandth, ``500M`` a million.
    """
    if is_template(amount):
        return str(amount)
    match = None
    if isinstance(amount, int | float | str) and not isinstance(amount, bool):
        match = _QUANTITY.fullmatch(str(amount).strip())
    if name == "cpu":
        if match and match[2] in ("", "m") and (size := round(float(match[1]) * (1 if match[2] else 1000))) > 0:
            return size
        raise InvalidInput(field, amount, 'CPUs above zero: 2, 0.5 or "500m"')
    if _is_memory(name):
        if match and match[2] in _BYTES and (size := int(float(match[1]) * _BYTES[match[2]])) > 0:
            return size
        raise InvalidInput(field, amount, 'bytes above zero: "4 GiB", "4Gi", "500 MB", "500M" or a number')
    if "/" not in name or not _KEY_NAME.fullmatch(name.rpartition("/")[2]):
        raise InvalidInput(field, amount, 'the resources cpu, memory, ephemeral-storage, or one like "nvidia.com/gpu"')
    if match and not match[2] and match[1].isdigit():
        return int(match[1])
    raise InvalidInput(field, amount, "a whole number")


def _written(name: str, size: int | str) -> str:
    """The very form in which the API server gives it back, so that what was made can be compared."""
    if isinstance(size, str):
        return size
    if name == "cpu":
        return f"{size}m" if size % 1000 else str(size // 1000)
    return memory_quantity(size) if _is_memory(name) else str(size)
