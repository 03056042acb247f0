"""``tutelage serve``: its options, and what they mean."""

from pathlib import Path
from typing import Annotated

import typer


def serve(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL_OR_ALIAS",
            help="A package (.zip or folder), or words of the registry: NAME, NAME@ALIAS.",
            show_default=False,
        ),
    ],
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8080,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Of ONNX Runtime.")] = 1,
    key: Annotated[
        Path | None, typer.Option(help="Packages must be signed with it.", show_default=False)
    ] = None,
    registry: Annotated[
        str | None,
        typer.Option(metavar="HOME_OR_URI", help="Where names are known.", show_default=False),
    ] = None,
    shadow: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL_OR_ALIAS",
            help="A candidate that is asked too, and not returned.",
            show_default=False,
        ),
    ] = None,
    shadow_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Of requests that the candidate gets.")
    ] = 0.1,
    token_file: Annotated[
        Path | None, typer.Option(help="Callers must show its word.", show_default=False)
    ] = None,
    max_batch: Annotated[
        int, typer.Option(min=1, max=4096, help="Examples of one run of the model.")
    ] = 32,
    max_wait_ms: Annotated[
        float, typer.Option(min=0.0, max=10_000.0, help="Longest that a batch waits for more.")
    ] = 2.0,
    queue: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Examples within the server at most.")
    ] = 256,
    max_body_mb: Annotated[
        float, typer.Option(min=0.001, max=2048.0, help="Of a request's body.")
    ] = 8.0,
    traffic: Annotated[
        Path | None,
        typer.Option(help="Folder where traffic is recorded, for monitor.", show_default=False),
    ] = None,
    keep_inputs: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Share of raw inputs that --traffic keeps, too."),
    ] = 0.0,
    access_log: Annotated[bool, typer.Option("--access-log", help="Log each request.")] = False,
) -> None:
    """Answer over HTTP with a package, until SIGTERM: POST /v1/predict, GET /metrics ..."""
    from tutelage.deployment.serving.predicting import Limits
    from tutelage.deployment.serving.server import Settings
    from tutelage.deployment.serving.server import serve as serve_
    from tutelage.deployment.serving.sources import resolver
    from tutelage.deployment.serving.token import read_token

    settings = Settings(
        host=host,
        port=port,
        threads=threads,
        key=key,
        limits=Limits(
            batch=max_batch,
            wait=max_wait_ms / 1000,
            body=int(max_body_mb * 2**20),
            examples=max(256, max_batch),
        ),
        queue=queue,
        token=None if token_file is None else read_token(token_file),
        shadow_share=shadow_share,
        traffic=traffic,
        keep_inputs=keep_inputs,
        access=access_log,
    )
    candidate = None if shadow is None else resolver(shadow, registry)
    serve_(resolver(model, registry), settings, candidate)
