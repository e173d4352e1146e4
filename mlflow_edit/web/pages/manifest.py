"""The manifest of a version, as it is stored."""

from flask import Response

from mlflow_edit.web.asked import Asked


def manifest(asked: Asked) -> Response:
    """Give the canonical JSON of a manifest, verified."""
    info = asked.version()
    data = asked.registry.manifest(info).to_bytes()
    answer = Response(data, mimetype="application/json")
    file_name = f"manifest-{info.version}-{info.digest[:12]}.json"
    answer.headers["Content-Disposition"] = f'attachment; filename="{file_name}"'
    return answer
