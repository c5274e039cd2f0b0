"""How console transcripts of documents are read and compared."""

import pytest

from tests.system.transcripts import Step, differences, steps_of

DOCUMENT = """
Some words.

```console
$ echo one
one
$ sleep 1
$ twinsplit run \\
      --now
two
```

    not a transcript

```console
$ true
```
"""


def test_commands_and_their_output_are_found_in_order() -> None:
    assert steps_of(DOCUMENT) == [
        Step("echo one", ("one",)),
        Step("sleep 1", ()),
        Step("twinsplit run \\\n      --now", ("two",)),
        Step("true", ()),
    ]


def test_a_block_that_begins_with_output_is_refused() -> None:
    with pytest.raises(ValueError, match="begins with output"):
        steps_of("```console\nout\n$ in\n```\n")


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        (["took 0.5 s"], ["took 12.25   s"]),
        (["at 127.0.0.1:7000"], ["at 127.0.0.1:41233"]),
        (["..."], []),
        (["first", "...", "last"], ["first", "last"]),
        (["first", "...", "last"], ["first", "a", "b", "last"]),
        (["plan 1 of rule ..., ..."], ["plan 7 of rule one-time, old"]),
        ([], []),
    ],
)
def test_numbers_space_and_what_is_left_out_may_differ(shown: list[str], printed: list[str]) -> None:
    assert differences(shown, printed) is None


@pytest.mark.parametrize(
    ("shown", "printed"),
    [(["one"], ["two"]), (["one"], []), ([], ["one"]), (["a", "b"], ["a"]), (["a ..."], ["b c"])],
)
def test_anything_else_may_not(shown: list[str], printed: list[str]) -> None:
    assert differences(shown, printed) is not None
