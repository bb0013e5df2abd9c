"""`sessionctl models`, `tokenize` and `embed`."""

from __future__ import annotations

import click

from sessiond.client.cli import target
from sessiond.client.cli.invocation import Invocation, json_option, pass_invocation


@click.command()
@json_option
@pass_invocation
def models(invocation: Invocation) -> None:
    """List the models of this machine.

    In a pipe the columns are parted by tabs: name, source, size, state, path.
    """
    from sessiond.client.cli.numbers import size
    from sessiond.client.cli.output import say_message, say_table
    from sessiond.v1 import model_service_pb2

    with invocation.connected() as client:
        found = client.models()
    if invocation.json:
        say_message(model_service_pb2.ListModelsResponse(models=found))
        return
    say_table(
        ("MODEL", "SOURCE", "SIZE", "STATE", "PATH"),
        [
            (
                model.name,
                model.source,
                size(model.size_bytes),
                ", ".join(
                    word
                    for word, holds in (("default", model.is_default), ("loaded", model.is_loaded))
                    if holds
                ),
                model.absolute_path,
            )
            for model in found
        ],
        right=(2,),
    )


@click.command()
@target.model_option
@click.option("--special", is_flag=True, help="Read the names of special tokens as these tokens.")
@click.option("--bos", is_flag=True, help="Open with the model's own first token.")
@json_option
@click.argument("text")
@pass_invocation
def tokenize(invocation: Invocation, model: str | None, special: bool, bos: bool, text: str) -> None:
    """Show the tokens of a text.

    Each is a line: its id and its bytes. A TEXT of `-` reads standard input.
    """
    from sessiond.client.cli.output import say_message, say_table

    with invocation.connected() as client:
        answer = client.tokenize(
            target.text_or_stdin(text),
            model=target.chosen_model(model),
            parse_special=special,
            add_bos=bos,
        )
    if invocation.json:
        say_message(answer)
        return
    say_table(
        ("TOKEN", "BYTES"),
        [
            (str(token), repr(piece)[2:-1])
            for token, piece in zip(answer.token_ids, answer.pieces, strict=False)
        ],
        right=(0,),
    )


@click.command()
@target.model_option
@click.option("--normalize", is_flag=True, help="Scale each vector to the length 1.")
@json_option
@click.argument("texts", nargs=-1, required=True, metavar="TEXT...")
@pass_invocation
def embed(invocation: Invocation, model: str | None, normalize: bool, texts: tuple[str, ...]) -> None:
    """Show the vectors of texts.

    The model has to be one that was made for it. Each vector is a line of numbers. A TEXT of `-` reads standard input.
    """
    from sessiond.client.cli.output import say, say_message

    with invocation.connected() as client:
        read = [target.text_or_stdin(text) for text in texts]
        found = client.embed(read, model=target.chosen_model(model), normalize=normalize)
    if invocation.json:
        for vector in found:
            say_message(vector)
        return
    for vector in found:
        say("\t".join(f"{value:.7g}" for value in vector.values))
