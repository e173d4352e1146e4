import csv
import io
import json
import time
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import batches

from mlflow_edit.core.edit_batch import EditBatch, Problem
from mlflow_edit.core.edit_file import EditFile, parse_edits
from mlflow_edit.errors import InvalidEdit

FORMATS = ["jsonl", "json", "csv", "yaml", "yml"]
GOOD = [
    {"id": "a", "prompt": "Who wrote it?", "target": "Ada", "rephrases": ["By whom?", "Author?"]},
    {"id": "b", "prompt": "Où est-ce ?", "target": "Zürich", "note": 'a "quoted"\nnote, two lines'},
]


def jsonl(*records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def written(records: list[dict[str, Any]], format: str) -> str:
    if format == "jsonl":
        return jsonl(*records)
    if format == "json":
        return json.dumps(records, indent=1)
    if format == "csv":
        out = io.StringIO(newline="")
        names = list(dict.fromkeys(name for record in records for name in record))
        writer = csv.DictWriter(out, names)
        writer.writeheader()
        for record in records:
            lists = {k: "|".join(v) for k, v in record.items() if isinstance(v, list)}
            writer.writerow({**record, **lists})
        return out.getvalue()
    return yaml.safe_dump(records, allow_unicode=True, sort_keys=False)


def problems(text: str, format: str, **kwargs: Any) -> list[str]:
    with pytest.raises(InvalidEdit) as caught:
        parse_edits(text, format=format, **kwargs)
    assert caught.value.message.isprintable() or "\n" in caught.value.message
    assert caught.value.message.encode()
    return [str(problem) for problem in caught.value.problems if isinstance(problem, Problem)]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_every_format_says_the_same(format: str, ends: str, mark: str) -> None:
    text = mark + written(GOOD, format).replace("\r\n", "\n").replace("\n", ends)
    read = parse_edits(text, format=format)
    assert [edit.id for edit in read.batch] == ["a", "b"]
    assert [edit.target for edit in read.batch] == ["Ada", "Zürich"]
    assert read.batch.edits[0].rephrases == ("By whom?", "Author?")
    assert '"quoted"' in (read.batch.edits[1].note or "")
    assert read.ignored_fields == ()


@pytest.mark.parametrize("format", FORMATS)
def test_the_digest_does_not_know_the_format(format: str) -> None:
    assert parse_edits(written(GOOD, format), format=format).batch.digest == (
        parse_edits(written(GOOD, "jsonl"), format="jsonl").batch.digest
    )


@given(batches(min_size=1))
def test_json_reads_what_jsonl_reads(batch: EditBatch) -> None:
    lines = batch.to_jsonl().decode().rstrip("\n").split("\n")
    assert parse_edits(f"[{','.join(lines)}]", format="json").batch == batch
    assert parse_edits(f'{{"edits": [{",".join(lines)}]}}', format="json").batch == batch


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff", "   \r\n"])
def test_an_empty_file_has_no_edits(format: str, text: str) -> None:
    with pytest.raises(InvalidEdit):
        parse_edits(text, format=format)


@pytest.mark.parametrize(
    ("text", "format"),
    [
        ("", "jsonl"),
        ("[]", "json"),
        ('{"edits": []}', "json"),
        ("prompt,target\n", "csv"),
        ("---\n", "yaml"),
        ("[]", "yaml"),
        ("edits: []", "yaml"),
        ("", "json"),
    ],
)
def test_no_edits_is_said_so(text: str, format: str) -> None:
    with pytest.raises(InvalidEdit, match="no edits"):
        parse_edits(text, format=format)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(InvalidEdit, match=r"\.jsonl.*not as \.pkl"):
        parse_edits("", format="pkl")


def test_every_bad_line_is_named_at_once() -> None:
    text = "\n".join(
        [
            '{"prompt": "q1", "target": "x"}',
            "",
            "not json",
            '{"prompt": "q2"}',
            '["a list"]',
            '{"prompt": " ", "target": 5}',
            '{"prompt": "q1", "target": "y"}',
            '{"prompt": "q3", "target": "x", "promt": "typo"}',
            '{"prompt": "q4", "target": "x", "prompt": "q5"}',
            '{"prompt": "q6", "target": "x", "locality": [{"answers": []}]}',
            '{"prompt": "q7", "target": "\\ud800"}',
            '{"prompt": "q8", "target": "x", "kind": "rumour"}',
            '{"prompt": "q9", "target": "x", "note": NaN}',
            "{",
        ]
    )
    found = problems(text, "jsonl")
    places = [line.split(": ")[:2] for line in found]
    assert places == [
        ["line 3", "record"],
        ["line 4", "target"],
        ["line 5", "record"],
        ["line 6", "prompt"],
        ["line 6", "target"],
        ["line 8", "promt"],
        ["line 9", "record"],
        ["line 10", "locality.0.prompt"],
        ["line 11", "target"],
        ["line 12", "kind"],
        ["line 13", "record"],
        ["line 14", "record"],
        ["line 7", "prompt"],
    ]
    said = "\n".join(found)
    for words in (
        "did you mean 'prompt'?",
        "field 'prompt' occurs twice",
        "contradicts line 1",
        "expected an object, found list",
        "NaN is not a JSON number",
    ):
        assert words in said


def test_bad_records_of_a_json_array_are_named_with_their_lines() -> None:
    text = '\n[\n {"prompt": "q", "target": "x"},\n {"prompt": "p",\n "prompt": "p"},\n 7]'
    assert problems(text, "json") == [
        "record 2 (line 4): record: not JSON: field 'prompt' occurs twice",
        "record 3 (line 6): record: expected an object, found int",
    ]


def test_bad_items_of_a_yaml_list_are_named_with_their_lines() -> None:
    text = "- prompt: q\n  target: x\n- prompt: p\n  prompt: p\n- 7\n- prompt: [q]\n  target: t\n"
    assert problems(text, "yaml") == [
        "line 3: record: field 'prompt' occurs twice",
        "line 5: record: expected an object, found int",
        "line 6: prompt: Input should be a valid string",
    ]
    assert problems("note: x\nedits:\n - prompt: q", "yaml") == ["line 3: target: Field required"]


def test_bad_rows_of_a_csv_are_named_with_their_lines() -> None:
    text = 'prompt,target\n"two\nlines",x\nq\n,y\n\n"p",\n'
    assert problems(text, "csv") == [
        "line 4: record: 1 cells, but the header has 2",
        "line 5: prompt: Field required",
        "line 7: target: Field required",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("question,target\nq,x", "no column 'prompt'"),
        ("prompt,target,prompt\nq,x,p", "a column occurs twice"),
        ('prompt,target\n"q,x\nq,x', "not CSV"),
        ('prompt,target\n"q"z,x', "not CSV"),
        ("prompt,target\n" + "q" * 140_000 + ",x", "not CSV"),
        ('prompt,target,rephrases\nq,x,"[1,"', "rephrases: not JSON"),
    ],
)
def test_a_broken_csv_is_refused(text: str, said: str) -> None:
    assert said in problems(text, "csv")[0]


def test_csv_cells_hold_lists_new_lines_and_nothing() -> None:
    text = (
        'prompt,target,rephrases,locality,note\n"a\nb",x, c | d |,"[""p"", {""prompt"": ""q""}]",\n'
    )
    (edit,) = parse_edits(text, format="csv").batch
    assert edit.prompt == "a\nb"
    assert edit.rephrases == ("c", "d")
    assert [probe.prompt for probe in edit.locality] == ["p", "q"]
    assert edit.note is None


@pytest.mark.parametrize(
    "typo", ["promt", "targets", "rephrase", "Prompt", "TARGET", "notes", "ids"]
)
def test_a_field_close_to_a_known_one_is_an_error(typo: str) -> None:
    assert "did you mean" in problems(jsonl({"prompt": "q", "target": "x", typo: "y"}), "jsonl")[0]


def test_other_unknown_fields_are_ignored_and_reported() -> None:
    record = {"prompt": "q", "target": "x", "ticket": 7, "zz\x1b\ud800": [], "a": None}
    read = parse_edits(jsonl(record), format="jsonl")
    assert read.ignored_fields == ("ticket", "zz\\x1b\\ud800")


@pytest.mark.parametrize(
    ("kind", "target", "expected"),
    [("label", 3, "3"), ("label", 0, "0"), ("label", -1, "-1"), ("label", "3", "3")],
)
def test_labels_may_be_numbers(kind: Any, target: Any, expected: str) -> None:
    record = {"prompt": "q", "target": target}
    assert parse_edits(jsonl(record), format="jsonl", kind=kind).batch.edits[0].target == expected
    own = parse_edits(jsonl({**record, "kind": kind}), format="jsonl", kind="fact").batch.edits[0]
    assert (own.target, own.kind) == (expected, "label")


@pytest.mark.parametrize("target", [True, 1.5, None, [1]])
def test_other_targets_must_be_text(target: Any) -> None:
    record = {"prompt": "q", "target": target, "kind": "label"}
    assert problems(jsonl(record), "jsonl")[0].startswith("line 1: target")
    assert problems(jsonl({"prompt": "q", "target": 3}), "jsonl")[0].startswith("line 1: target")


@pytest.mark.parametrize("text", ["no", "12:30", "010", "0x10", "2024-01-31", "1_000", "on", ".5"])
def test_yaml_text_is_what_is_written(text: str) -> None:
    source = f"- prompt: q\n  target: {text}\n  {text}: z\n"
    read = parse_edits(source, format="yaml")
    assert read.batch.edits[0].target == text
    assert read.ignored_fields == (text,)


@pytest.mark.parametrize(
    "item",
    [
        "!!python/object:os.system {}",
        "!!python/name:os.system",
        "!!binary aGk=",
        "!!set {a}",
        "!!omap [a: b]",
        "!custom x",
        "!!timestamp [x]",
        "{? [a] : b}",
    ],
)
def test_yaml_tags_are_refused(item: str) -> None:
    assert problems(f"- {item}\n- prompt: q\n  target: x", "yaml")[0].startswith("line 1: record")


@pytest.mark.parametrize(
    "item", ["!!int ''", "!!timestamp foo", "!!bool foo", "!!float x", "!!int x"]
)
def test_yaml_tags_of_known_types_do_no_harm(item: str) -> None:
    parse_or_refuse(f"- prompt: q\n  target: {item}", "yaml")


def bomb() -> str:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    return "\n".join([*lines, "edits: *a11"])


@pytest.mark.parametrize(
    ("text", "format"),
    [
        ("- prompt: &p q\n  target: *p", "yaml"),
        ("- &x [*x]", "yaml"),
        (bomb(), "yaml"),
        ("- &d {prompt: q}\n- <<: *d\n  target: x", "yaml"),
        ("[" * 100_000, "json"),
        ("[" * 100_000, "jsonl"),
        ("[" * 20_000, "yaml"),
        ("- " * 3_000, "yaml"),
        ("[" * 50_000 + "]" * 50_000, "json"),
        ('{"a":' * 50_000 + "1" + "}" * 50_000, "jsonl"),
        ('[{"prompt": "q", "target": "x", "zz": ' + "[" * 50_000 + "]" * 50_000 + "}]", "json"),
        ('{"prompt": "q", "target": ' + "1" * 100_000 + "}", "jsonl"),
        ('[{"prompt": "q", "target": ' + "1" * 100_000 + "}]", "json"),
        ("- prompt: q\n  kind: label\n  target: 0x" + "f" * 10_000 + "0 # \ud800", "yaml"),
        ('"\\UFFFFFFFF"', "yaml"),
        ("%YAML 9.9\n---\nx", "yaml"),
        ("prompt,target\n" + '"' * 100_001, "csv"),
    ],
)
def test_bombs_are_refused_at_once(text: str, format: str) -> None:
    began = time.perf_counter()
    assert problems(text, format)
    assert time.perf_counter() - began < 5


def test_nul_is_refused_in_every_format() -> None:
    assert "NUL" in problems(jsonl({"prompt": "a\0", "target": "x"}), "jsonl")[0]
    assert "NUL" in problems("prompt,target\na\0,x", "csv")[0]
    assert problems("- prompt: a\0\n  target: x", "yaml")
    assert "NUL" in problems('- prompt: "a\\0"\n  target: x', "yaml")[0]


@pytest.mark.parametrize("bad", ["\ud800", "a\udfff", "a\udfffb"])
@pytest.mark.parametrize("field", ["id", "prompt", "target", "old", "note", "source", "author"])
def test_lone_surrogates_are_refused_by_field(field: str, bad: str) -> None:
    record = {"prompt": "q", "target": "x", field: bad}
    assert problems(jsonl(record), "jsonl")[0].startswith(f"line 1: {field}: ")


def parse_or_refuse(text: str, format: str) -> EditFile | None:
    try:
        read = parse_edits(text, format=format)
    except InvalidEdit as error:
        error.message.encode()  # can be shown
        return None
    assert read.batch.digest
    assert parse_edits(read.batch.to_jsonl().decode(), format="jsonl").batch == read.batch
    return read


@pytest.mark.parametrize("format", FORMATS[:4])
@settings(max_examples=200)
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(format: str, text: str) -> None:
    parse_or_refuse(text, format)


SEEDS = {format: written(GOOD, format) for format in FORMATS[:4]}
FRAGMENTS = st.sampled_from(
    [
        '"',
        "'",
        "\\",
        "\\u",
        "\\ud800",
        "[",
        "{",
        "]",
        "}",
        ",",
        ":",
        "- ",
        "\n",
        "\r",
        "\t",
        "&a ",
        "*a",
        "!!",
        "!!int",
        "? ",
        "| ",
        "> ",
        "%",
        "#",
        "<<: ",
        "null",
        "NaN",
        "1e999",
        "\0",
        "\ud800",
        "prompt",
        '"prompt":',
        "\ufeff",
        "---\n",
        "...\n",
        "\u2028",
        "\x85",
        "true",
        "1" * 20,
    ]
)


@pytest.mark.parametrize("format", FORMATS[:4])
@settings(max_examples=250)
@given(st.data())
def test_a_damaged_file_is_read_or_refused(format: str, data: st.DataObject) -> None:
    text = SEEDS[format]
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 4))
        text = text[:at] + data.draw(FRAGMENTS | st.text(max_size=3)) + text[at + cut :]
    parse_or_refuse(text, format)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "kind", "prompt", "target", "rephrases", "locality", "answers", "zz"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@settings(max_examples=250)
@given(st.lists(JSON_VALUES, max_size=3))
def test_any_values_are_read_or_refused(values: list[Any]) -> None:
    parse_or_refuse(jsonl(*values), "jsonl")
    parse_or_refuse(json.dumps(values), "json")


def test_a_large_file_is_read_in_time() -> None:
    records = [{"id": f"e{i}", "prompt": f"question {i}?", "target": f"t{i}"} for i in range(5_000)]
    began = time.perf_counter()
    assert len(parse_edits(json.dumps(records, indent=1), format="json").batch) == 5_000
    assert time.perf_counter() - began < 5
