"""`sessionctl fn`: prompts as functions, from a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sessiond.client.cli import target
from sessiond.client.cli.decoding import contents_of, decoding_options, settings_of
from sessiond.client.cli.invocation import Invocation, json_option, pass_invocation

if TYPE_CHECKING:
    from sessiond.v1.config_pb2 import DecodeConfig
    from sessiond.v1.function_service_pb2 import MapFunctionResponse

_MOST_OF_A_BODY = 60
"""Characters of a body in a table."""


@click.group()
def fn() -> None:
    """Define prompts as functions, and call them.

    A function is a fixed text, its body, that stays hot in the daemon: a call computes its argument and its answer, and
    leaves nothing behind. Functions stay until they are deleted.
    """


@fn.command()
@click.option("--body", metavar="TEXT", help="The body; - reads it.")
@click.option("--body-file", metavar="FILE", type=click.Path(), help="A file with the body.")
@click.option(
    "--example",
    "examples",
    multiple=True,
    metavar="ARGUMENT=VALUE",
    help="An argument with the value that it should have; give several.",
)
@decoding_options
@click.option("--seed", type=click.IntRange(min=0), help="The same draws in every call.")
@click.option(
    "--stop", "stops", multiple=True, metavar="TEXT", help="Text that ends an answer; give several."
)
@target.model_option
@click.option("--num-ctx", type=click.IntRange(min=0), help="The window, in tokens.")
@json_option
@click.argument("name")
@pass_invocation
def define(
    invocation: Invocation,
    name: str,
    body: str | None,
    body_file: str | None,
    examples: tuple[str, ...],
    max_tokens: int | None,
    temperature: float | None,
    grammar: str | None,
    json_schema: str | None,
    choices: tuple[str, ...],
    logprobs: int | None,
    seed: int | None,
    stops: tuple[str, ...],
    model: str | None,
    num_ctx: int | None,
) -> None:
    """Define the function NAME, or replace the one of that name.

    Its body is computed at once.
    """
    if (body is None) == (body_file is None):
        raise click.UsageError("give either --body or --body-file")
    text = target.text_or_stdin(body) if body is not None else contents_of(body_file or "")
    settings = settings_of(
        max_tokens=max_tokens,
        temperature=temperature,
        grammar=grammar,
        json_schema=json_schema,
        choices=choices,
        logprobs=logprobs,
    )
    if seed is not None:
        settings["seed"] = seed
    if stops:
        settings["stop"] = stops
    shown = [_example(each) for each in examples]
    from sessiond.client.cli.numbers import count
    from sessiond.client.cli.output import say, say_message
    from sessiond.client.cli.progress import spinner
    from sessiond.client.requests import decode_config, made
    from sessiond.v1 import config_pb2, function_service_pb2

    window = made(config_pb2.Config, num_ctx=num_ctx) if num_ctx else None
    with invocation.connected() as client, spinner("reading the body", show=not invocation.json):
        defined = client.define_function(
            name,
            text,
            config=decode_config(None, settings),
            examples=shown,
            model=target.chosen_model(model),
            session_config=window,
        )
    if invocation.json:
        say_message(function_service_pb2.DefineFunctionResponse(function=defined))
    else:
        say(f"{defined.name}: {count(defined.body_tokens)} tokens")


def _example(told: str) -> tuple[str, str]:
    argument, equals, value = told.partition("=")
    if not equals:
        raise click.UsageError(f"--example {told} is not of the form ARGUMENT=VALUE")
    return argument, value


@fn.command("list")
@json_option
@pass_invocation
def list_(invocation: Invocation) -> None:
    """List the functions.

    In a pipe the columns are parted by tabs: name, tokens of the body, examples, what an answer is, model, body.
    """
    from sessiond.client.cli.numbers import count
    from sessiond.client.cli.output import say_message, say_table
    from sessiond.v1 import function_service_pb2

    with invocation.connected() as client:
        functions = client.functions()
    if invocation.json:
        say_message(function_service_pb2.ListFunctionsResponse(functions=functions))
        return
    say_table(
        ("FUNCTION", "TOKENS", "EXAMPLES", "ANSWER", "MODEL", "BODY"),
        [
            (
                each.name,
                count(each.body_tokens),
                count(len(each.examples)),
                _answer(each.config),
                each.model,
                _shortened(each.body),
            )
            for each in functions
        ],
        right=(1, 2),
    )


def _answer(config: DecodeConfig) -> str:
    """What an answer is, in a word or two."""
    if config.choices:
        return f"one of {len(config.choices)}"
    return "json" if config.json_schema else "grammar" if config.grammar else "text"


def _shortened(body: str) -> str:
    line = " ".join(body[: 4 * _MOST_OF_A_BODY].split())
    return line if len(line) <= _MOST_OF_A_BODY else line[: _MOST_OF_A_BODY - 1] + "…"


@fn.command()
@json_option
@click.argument("name")
@click.argument("argument", required=False)
@pass_invocation
def call(invocation: Invocation, name: str, argument: str | None) -> None:
    """Call the function NAME and stream its answer.

    Without an ARGUMENT, or with -, it is read from standard input.
    """
    text = target.text_or_stdin("-" if argument is None else argument)
    from sessiond.client.cli.output import say, say_message
    from sessiond.v1 import function_service_pb2

    ended = True  # whether the cursor stands at the start of a line
    with invocation.connected() as client, client.call_function(name, text) as chunks:
        for chunk in chunks:
            if invocation.json:
                say_message(function_service_pb2.CallFunctionResponse(chunk=chunk))
            elif chunk.text:
                say(chunk.text, end="")
                ended = chunk.text.endswith("\n")
    if not ended:
        say()


@fn.command("map")
@click.option("--as-ended", is_flag=True, help="Print each answer as it ends, behind its line's number.")
@json_option
@click.argument("name")
@click.argument("file", type=click.Path(), default="-")
@pass_invocation
def map_(invocation: Invocation, as_ended: bool, name: str, file: str) -> None:
    """Call the function NAME with each line of FILE.

    The calls run side by side. Answers are printed in the order of the lines, each on one line: a line break in an answer
    becomes a space, unless --json is given. Without a FILE, or with -, the lines are read from standard input.
    """
    lines = contents_of(file).split("\n")
    if not lines[-1]:
        lines.pop()
    from sessiond.client.calls.functions import batches
    from sessiond.client.cli.progress import CountBar

    waiting: dict[int, MapFunctionResponse] = {}
    at = 0
    with (
        invocation.connected() as client,
        CountBar(len(lines), "answered", show=not invocation.json) as bar,
    ):
        for start, batch in batches(lines):
            with client.map_function(name, batch) as answers:
                for answer in answers:
                    bar.advance()
                    answer.index += start
                    if as_ended:
                        _say_answer(invocation, answer, numbered=True)
                        continue
                    waiting[answer.index] = answer
                    while at in waiting:
                        _say_answer(invocation, waiting.pop(at))
                        at += 1


def _say_answer(invocation: Invocation, answer: MapFunctionResponse, *, numbered: bool = False) -> None:
    from sessiond.client.cli.output import say, say_message

    if invocation.json:
        say_message(answer)
        return
    line = " ".join(answer.value.splitlines())
    say(f"{answer.index + 1}\t{line}" if numbered else line)


@fn.command()
@json_option
@click.argument("name")
@pass_invocation
def delete(invocation: Invocation, name: str) -> None:
    """Delete the function NAME.

    Calls that run are answered to their end.
    """
    from sessiond.client.cli.output import say, say_message
    from sessiond.v1 import function_service_pb2

    with invocation.connected() as client:
        client.delete_function(name)
    if invocation.json:
        say_message(function_service_pb2.DeleteFunctionResponse())
    else:
        say(f"{name}: deleted")
