"""The review queues of MLflow 3.14 and later, through which people answer in its own pages.

Queues, their questions and writing many traces at once are experimental or internal in MLflow: this
is the only module that knows them. Where they are missing, or the server refuses them, it says so.
"""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Span
from mlflow.exceptions import MlflowException
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

from mlflow_edit.core.approval import Answered, Question
from mlflow_edit.errors import MlflowEditError, RegistryError, VersionNotFound
from mlflow_edit.registry.mlflow_errors import mlflow_errors
from mlflow_edit.registry.names import experiment_name, shown_uri
from mlflow_edit.registry.registry import ReviewQueue, VersionInfo

SCHEMA = "approve_edit"  # the question, and the name under which its answers are kept
INSTRUCTION = "Should the model answer like this from now on?"
VERSION_TAG, EDIT_TAG = "mledit.version", "mledit.edit"
PER_CALL = 200
PER_PAGE = 500  # as many traces as MLflow returns at once


class MlflowReviewQueues:
    """Makes the review queues of versions, and reads what was answered there."""

    def __init__(self, client: MlflowClient, tracking_uri: str) -> None:
        self._client, self._uri = client, tracking_uri
        self._willing: set[str] = set()  # models whose experiment takes queues

    def refusal(self, name: str) -> str | None:
        """Say why there can be no queues for a model, None where there can."""
        if self._uri.startswith("databricks"):
            return "Databricks has no review queues of this kind"
        if name in self._willing:
            return None
        try:
            with _queue_errors("looking for review queues"):
                from mlflow.genai.review_queues import list_review_queues

                found = self._client.get_experiment_by_name(experiment_name(name))
                if found is not None:
                    list_review_queues(experiment_id=found.experiment_id, max_results=1)
        except RegistryError as error:
            return error.message
        self._willing.add(name)
        return None

    def ask(self, info: VersionInfo, questions: Sequence[Question]) -> ReviewQueue:
        """Write the traces first, then the queue, then the link: each can be done again."""
        doing = f"asking for a review of {info.name}@{info.version}"
        with _queue_errors(doing):
            from mlflow.genai.review_queues import add_items_to_review_queue
            from mlflow.tracing.client import TracingClient

            known = self._traces(info)
            new = [one for one in questions if one.id not in known]
            tracing = TracingClient(self._uri)
            for part in _parts(new):
                spans = [_span(question, info) for question in part]
                tracing.log_spans(info.experiment_id, spans)
            queue_id = self._find(info) or self._create(info)
            for part in _parts(questions):
                ids = [_trace_id(question.id) for question in part]
                add_items_to_review_queue(queue_id, item_ids=ids)
            self._link_from_description(info, queue_id, len(questions))
        found = self.read(info)
        if found is None or {one.id for one in questions} - set(found.asked):
            raise RegistryError(f"{doing}: MLflow did not keep all of it")
        return found

    def read(self, info: VersionInfo) -> ReviewQueue | None:
        """Read the items of the queue, and the assessments of their traces."""
        if self.refusal(info.name) is not None:
            return None
        with _queue_errors(f"reading the review of {info.name}@{info.version}"):
            queue_id = self._find(info)
            if queue_id is None:
                return None
            complete = {item.item_id: str(item.status) == "complete" for item in _items(queue_id)}
            asked = {
                question: Answered(complete[_trace_id(question)], _latest(assessments))
                for question, assessments in self._traces(info).items()
                if _trace_id(question) in complete
            }
        return ReviewQueue(self._link(info, queue_id), asked)

    def _find(self, info: VersionInfo) -> str | None:
        from mlflow.genai.review_queues import get_review_queue

        try:
            found = get_review_queue(name=_name(info), experiment_id=info.experiment_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return str(found.queue_id)

    def _create(self, info: VersionInfo) -> str:
        from mlflow.genai.review_queues import create_review_queue

        try:
            made = create_review_queue(
                _name(info),
                queue_type="custom",
                schema_ids=[_schema(info.experiment_id)],
                experiment_id=info.experiment_id,
            )
        except MlflowException as error:
            found = self._find(info) if error.error_code == "RESOURCE_ALREADY_EXISTS" else None
            if found is None:
                raise
            return found
        return str(made.queue_id)

    def _traces(self, info: VersionInfo) -> dict[str, list[Any]]:
        """Return the assessments of a version's questions, by question."""
        found: dict[str, list[Any]] = {}
        token = None
        while True:
            page = self._client.search_traces(
                locations=[info.experiment_id],
                filter_string=f"tags.`{VERSION_TAG}` = '{info.digest[:32]}'",
                max_results=PER_PAGE,
                page_token=token,
                include_spans=False,
            )
            for trace in page:
                question = str(trace.info.trace_id).removeprefix("tr-")
                found[question] = list(trace.info.assessments or [])
            token = page.token
            if not token:
                return found

    def _link(self, info: VersionInfo, queue_id: str) -> str:
        page = f"#/experiments/{info.experiment_id}/review-queue?selectedQueueId={queue_id}"
        server = self._uri.startswith(("http://", "https://"))
        return f"{shown_uri(self._uri).rstrip('/')}/{page}" if server else page

    def _link_from_description(self, info: VersionInfo, queue_id: str, n_questions: int) -> None:
        """Put the link under the first line of the version's description, unless it is there."""
        number = str(info.version)
        text = self._client.get_model_version(info.name, number).description or ""
        if queue_id in text:
            return
        page = f"#/experiments/{info.experiment_id}/review-queue?selectedQueueId={queue_id}"
        noun = "change" if n_questions == 1 else "changes"
        first, _, rest = text.partition("\n")
        linked = f"{first}\n\n[Review {n_questions:,} {noun}]({page})\n{rest}"
        self._client.update_model_version(info.name, number, description=linked)


def _name(info: VersionInfo) -> str:
    return f"{info.name}@{info.version}"


def _trace_id(question: str) -> str:
    return f"tr-{question}"


def _span(question: Question, info: VersionInfo) -> Span:
    """Make the one span of a trace. Its ids follow from the question: logged twice, it is one.

    Messages of a chat are what MLflow's pages render as Markdown.
    """
    now = time.time_ns()
    said = {
        "mlflow.traceRequestId": _trace_id(question.id),
        "mlflow.spanType": "UNKNOWN",
        "mlflow.spanInputs": {"messages": [{"role": "user", "content": question.request}]},
        "mlflow.spanOutputs": {
            "choices": [{"message": {"role": "assistant", "content": question.response}}]
        },
        f"mlflow.traceTag.{VERSION_TAG}": info.digest[:32],
        f"mlflow.traceTag.{EDIT_TAG}": question.label,
    }
    context = SpanContext(
        trace_id=int(question.id, 16),
        span_id=int(question.id[:16], 16) or 1,
        is_remote=False,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )
    return Span(
        ReadableSpan(
            name=question.label,
            context=context,
            resource=Resource.get_empty(),
            attributes={key: json.dumps(value, ensure_ascii=False) for key, value in said.items()},
            start_time=now,
            end_time=now,
            status=Status(StatusCode.OK),
        )
    )


def _schema(experiment_id: str) -> str:
    """Return the id of the Pass/Fail question of an experiment, which is made once."""
    from mlflow.genai.label_schemas import InputPassFail, create_label_schema, get_label_schema

    try:
        made = create_label_schema(
            SCHEMA,
            type="feedback",
            input=InputPassFail("Approve", "Reject"),
            instruction=INSTRUCTION,
            enable_comment=True,
            experiment_id=experiment_id,
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        made = get_label_schema(SCHEMA, experiment_id=experiment_id)
    return str(made.schema_id)


def _items(queue_id: str) -> Iterator[Any]:
    from mlflow.genai.review_queues import list_review_queue_items

    token = None
    while True:
        page = list_review_queue_items(queue_id, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _latest(assessments: Iterable[Any]) -> dict[str, bool]:
    """Return each person's latest answer; only a plain yes is one, and no judge is a person."""
    ours = [one for one in assessments if one.name == SCHEMA and one.valid is not False]
    ours = [one for one in ours if one.source.source_type == "HUMAN"]
    ours.sort(key=lambda one: one.last_update_time_ms or 0)
    return {one.source.source_id: one.feedback.value is True for one in ours if one.feedback}


def _parts(questions: Sequence[Question]) -> Iterator[Sequence[Question]]:
    for start in range(0, len(questions), PER_CALL):
        yield questions[start : start + PER_CALL]


@contextmanager
def _queue_errors(doing: str) -> Iterator[None]:
    """Raise RegistryError for all that an experimental interface may fail by."""
    try:
        with mlflow_errors(doing):
            yield
    except VersionNotFound as error:
        raise RegistryError(error.message) from error
    except ImportError as error:
        raise RegistryError(f"{doing}: this MLflow has no review queues") from error
    except MlflowEditError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}"[:300]
        raise RegistryError(f"{doing}: this MLflow has other review queues: {said}") from error
