"""The examples of the OpenAPI document, by schema or by operation; a test checks them all."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from services.api.models import JobObject
from services.config import JobSpec
from services.jobs import Job


def _job() -> dict[str, Any]:
    known: dict[str, Any] = {
        **dict.fromkeys(field.name for field in fields(Job)),
        "id": "ftjob-0123456789abcdef01234567",
        "tenant": "default",
        "status": "queued",
        "created_at": 1795392000.0,
        "spec": JobSpec.model_validate(
            {
                "model": {"path": "org/name"},
                "tasks": {"train": "/data/train.jsonl"},
                "algorithm": {"kind": "rlsd"},
            }
        ).model_dump(mode="json"),
        "metadata": {"team": "search"},
        "rewards": [(1, 0.25), (2, 0.5)],
        "priority": 0,
        "revision": 1,
        "token": 0,
        "attempts": 0,
        "trained_tokens": 0,
        "runtime_s": 0.0,
    }
    return JobObject.of(Job(**known)).model_dump(mode="json")


_ENDPOINT: dict[str, Any] = {
    "id": "we_0123456789abcdef01234567",
    "object": "webhook_endpoint",
    "name": "alerts",
    "url": "https://hooks.example.com/strop",
    "event_types": ["fine_tuning.job.succeeded"],
    "created_at": 1795392000,
    "updated_at": 1795392000,
    "signing_secret_hint": "9Qa4",
    "last_delivery": None,
}

_KEY: dict[str, Any] = {
    "id": "0123456789abcdef",
    "object": "api_key",
    "name": "ci",
    "tenant": "default",
    "scopes": ["jobs:read", "jobs:write"],
    "created_at": 1795392000,
    "expires_at": None,
    "last_used_at": None,
    "revoked_at": None,
    "previous_until": None,
}

_ROLLOUT: dict[str, Any] = {
    "id": "12-3-5",
    "object": "fine_tuning.job.rollout",
    "step": 12,
    "group": 3,
    "rollout": 5,
    "task_id": "t1",
    "verifier": "math",
    "status": "correct",
    "score": 1.0,
    "advantage": 0.7,
    "finish_reason": "stop",
    "tokens": 3,
    "version": 11,
    "text": "It is 12",
    "evidence": {"expected": "12", "extracted": "12"},
    "cpu_ms": 0.2,
    "wall_ms": 0.3,
}

_SCHEMAS: dict[str, Any] = {
    "ProblemBody": {
        "type": "urn:strop:problem:not_found",
        "title": "Not Found",
        "status": 404,
        "detail": "there is no job 'ftjob-x'",
        "instance": "/v1/fine_tuning/jobs/ftjob-x",
        "errors": [],
        "error": {
            "message": "there is no job 'ftjob-x'",
            "type": "invalid_request_error",
            "param": None,
            "code": "not_found",
        },
    },
    "CreateJob": {
        "model": "org/name",
        "training_file": "/data/train.jsonl",
        "method": {"type": "strop", "strop": {"steps": 100, "algorithm": {"kind": "rlsd"}}},
        "metadata": {"team": "search"},
    },
    "EventObject": {
        "id": "1",
        "object": "fine_tuning.job.event",
        "created_at": 1795392000,
        "level": "info",
        "type": "message",
        "message": "Job queued.",
        "data": {"kind": "status", "status": "queued"},
    },
    "MetricsObject": {
        "id": "7",
        "object": "fine_tuning.job.metrics",
        "created_at": 1795392000,
        "kind": "step",
        "step": 3,
        "metrics": {"reward": 0.5},
    },
    "CheckpointObject": {
        "id": "ftckpt-0123456789abcdef01234567",
        "object": "fine_tuning.job.checkpoint",
        "created_at": 1795392000,
        "fine_tuning_job_id": "ftjob-0123456789abcdef01234567",
        "fine_tuned_model_checkpoint": "ft:org/name:default:search:0123:ckpt-step-3",
        "step_number": 3,
        "metrics": {"step": 3},
    },
    "RolloutObject": _ROLLOUT,
    "RolloutDetail": {
        **_ROLLOUT,
        "messages": [{"role": "user", "content": "What is 3 times 4?"}],
        "verifier_spec": {"kind": "math", "answer": "12"},
        "privileged": {"kind": "trace", "text": "3 times 4 is 12.", "tokens": 9},
        "token_texts": ["It", " is", " 12"],
        "token_ids": [1589, 314, 32],
        "special_tokens": [],
        "streams": {
            "credit": [0.7, 0.69, 0.77],
            "weight": [1.0, 0.98, 1.1],
            "evidence": [0.0, -0.02, 0.1],
            "teacher_logprob": [-1.2, -0.3, -0.4],
            "contrast_logprob": None,
            "student_logprob": [-1.2, -0.28, -0.5],
            "engine_logprob": [-1.21, -0.28, -0.5],
            "entropy": [2.1, 0.9, 1.4],
        },
        "alternatives": [
            [{"id": 504, "text": "The", "logprob": -0.9}],
            [{"id": 314, "text": " is", "logprob": -0.28}],
            [{"id": 32, "text": " 12", "logprob": -0.5}],
        ],
        "teacher_alternatives": None,
    },
    "FileObject": {
        "id": "file-0123456789abcdef01234567",
        "object": "file",
        "bytes": 1024,
        "created_at": 1795392000,
        "filename": "train.jsonl",
        "purpose": "fine-tune",
        "status": "processed",
        "status_details": None,
        "expires_at": None,
        "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    },
    "FileDeleted": {
        "id": "file-0123456789abcdef01234567",
        "object": "file",
        "deleted": True,
    },
    "KeyObject": _KEY,
    "IssuedKeyObject": {**_KEY, "api_key": "strop_0123456789abcdef_SECRET"},
    "AuditRecord": {
        "id": "1795392000000-0",
        "object": "audit.record",
        "created_at": 1795392000.0,
        "tenant": "default",
        "caller": "0123456789abcdef",
        "action": "job.create",
        "target": "ftjob-0123456789abcdef01234567",
        "outcome": "done",
        "status": None,
        "request_id": "req-0123456789abcdef01234567",
        "facts": {"priority": 0},
    },
    "CallerObject": {
        "id": "0123456789abcdef",
        "object": "caller",
        "tenant": "default",
        "scopes": ["jobs:read", "jobs:write"],
    },
    "LimitsObject": {
        "object": "limits",
        "tenant": "default",
        "requests": "600 per 1 minute",
        "open_jobs": 100,
        "stored_bytes": 1099511627776,
        "trained_tokens": None,
        "own": [],
        "used_open_jobs": 1,
        "used_stored_bytes": 1024,
        "used_trained_tokens": 0,
    },
    "DeletedModel": {"id": "ft:org/name:search", "object": "model", "deleted": True},
    "EventTypeList": {"object": "list", "data": ["fine_tuning.job.succeeded"]},
    "EndpointObject": _ENDPOINT,
    "EndpointWithSecret": {**_ENDPOINT, "signing_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
    "DeletedEndpoint": {
        "id": "we_0123456789abcdef01234567",
        "object": "webhook_endpoint.deleted",
        "deleted": True,
    },
    "TestResult": {
        "object": "webhook_endpoint.test",
        "webhook_endpoint_id": "we_0123456789abcdef01234567",
        "event_type": "fine_tuning.job.succeeded",
        "status_code": 200,
        "success": True,
    },
}

OPERATIONS: dict[str, Any] = {
    "read_logs": "2026-11-23T02:00:00+00:00 info  Job queued.\n",
    "get_content": '{"prompt": "1 + 1 = ?", "verifier": {"kind": "math", "answer": "2"}}\n',
    "healthz": {"status": "ok"},
    "readyz": {"status": "ready"},
    "metrics": '# TYPE strop_jobs gauge\nstrop_jobs{status="queued"} 1.0\n',
    "schema": {"title": "JobSpec", "type": "object", "properties": {}},
}


def schema_examples() -> dict[str, Any]:
    """The examples of schemas, by name."""
    return {**_SCHEMAS, "JobObject": _job()}
