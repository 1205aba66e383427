"""pip's settings as uv understands them, because uv reads neither pip.conf nor PIP_*."""

import ast
from collections.abc import Mapping

INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL")
# pip's option to uv's variable, where the value is the same.
SAME = {
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "timeout": "UV_HTTP_TIMEOUT",
    "retries": "UV_HTTP_RETRIES",
}


def read_listing(listing: str) -> dict[str, str]:
    """The options that apply to `pip install`, from what `pip config list` prints (`section.option='value'`).

    As in pip, [install] overrides [global], and PIP_* (section :env:) overrides both.
    """
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listing.splitlines():
        key, equals, value = line.partition("=")
        section, _, option = key.rpartition(".")
        if equals and section in sections:
            sections[section][option] = ast.literal_eval(value)
    return {**sections["global"], **sections["install"], **sections[":env:"]}


def uv_environment(settings: Mapping[str, str], environ: Mapping[str, str], default_index: str) -> dict[str, str]:
    """The variables that make uv look where pip would; those of `environ` that begin with UV_ win.

    `default_index` is asked first, as pip does, unless `settings` name another index. All indexes count alike, as in
    pip: uv would otherwise take a package only from the first that knows its name.
    """
    found = {variable: settings[option] for option, variable in SAME.items() if option in settings}
    indexes = [settings.get("index-url", default_index), *settings.get("extra-index-url", "").split()]
    if ("index-url" in settings or len(indexes) > 1) and not any(variable in environ for variable in INDEXES):
        found["UV_DEFAULT_INDEX"] = indexes[-1]  # the one that uv asks last
        found["UV_INDEX"] = " ".join(indexes[:-1])
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if "find-links" in settings:
        found["UV_FIND_LINKS"] = ",".join(settings["find-links"].split())
    if "trusted-host" in settings:
        found["UV_INSECURE_HOST"] = " ".join(settings["trusted-host"].split())
    if proxy := settings.get("proxy"):
        found["HTTP_PROXY"] = found["HTTPS_PROXY"] = proxy if "://" in proxy else f"http://{proxy}"
    return {name: value for name, value in found.items() if not (name.startswith("UV_") and name in environ)}


def no_index(settings: Mapping[str, str]) -> bool:
    """Whether pip was told to use no index; uv has an option for it, but no variable."""
    return settings.get("no-index", "").lower() in ("1", "true", "yes", "on", "y", "t")
