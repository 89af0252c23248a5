"""The form that creates and changes automations, over the API's own serializers."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from automations.api.base import verify_free
from automations.api.serializers import (
    AutomationChangesSerializer,
    AutomationSerializer,
    build_changes,
    build_document,
)
from automations.dashboard.access import Reader, workspace_page
from automations.dashboard.form_fields import GROUPS, flatten_errors, list_fields, read_document
from automations.dashboard.formatting import describe_automation
from automations.rules import store
from automations.rules.automation import DEFAULT_MATCH

_NEW: dict[str, Any] = {"isActive": True, "trigger": {"match": DEFAULT_MATCH}}


@workspace_page
@require_http_methods(["GET", "HEAD", "POST"])
def create_automation(request: HttpRequest, reader: Reader) -> HttpResponseBase:
    accounts = store.list_account_ids(reader.workspace_id)
    if request.method != "POST":
        only_one = {"accountId": accounts[0]} if len(accounts) == 1 else {}
        return _show(request, reader, accounts, read_document(_NEW | only_one))
    serializer = AutomationSerializer(data=request.POST, context=_build_context(reader))
    if not serializer.is_valid():
        return _show(request, reader, accounts, request.POST, serializer.errors)
    document = build_document(
        serializer.validated_data, workspace_id=reader.workspace_id, at=reader.at
    )
    store.insert_automation(document)
    return _go_to(reader, document)


@workspace_page
@require_http_methods(["GET", "HEAD", "POST"])
def change_automation(request: HttpRequest, reader: Reader, automation_id: str) -> HttpResponseBase:
    workspace_id = reader.workspace_id
    document = store.find_automation(workspace_id, automation_id)
    if document is None:
        raise Http404
    accounts = store.list_account_ids(workspace_id)
    if request.method != "POST":
        values = read_document(AutomationSerializer().to_representation(document))
        return _show(request, reader, accounts, values, changed=document)
    serializer = AutomationChangesSerializer(data=request.POST, context=_build_context(reader))
    if not serializer.is_valid():
        return _show(request, reader, accounts, request.POST, serializer.errors, changed=document)
    changes, removed = build_changes(serializer.validated_data, at=reader.at)
    if not store.update_automation(workspace_id, automation_id, changes=changes, removed=removed):
        raise Http404
    return _go_to(reader, document)


def _build_context(reader: Reader) -> dict[str, Any]:
    return {"verify_account": partial(verify_free, workspace_id=reader.workspace_id)}


def _show(
    request: HttpRequest,
    reader: Reader,
    accounts: list[str],
    values: Mapping[str, Any],
    refused: Mapping[str, Any] | None = None,
    *,
    changed: Mapping[str, Any] | None = None,
) -> HttpResponse:
    errors = flatten_errors(refused or {})
    known = {field.name for field in list_fields()}
    groups = [
        {
            "group": group,
            "rows": [
                {"field": one, "value": values.get(one.name), "error": errors.get(one.name, "")}
                for one in group.fields
            ],
        }
        for group in GROUPS
    ]
    context = {
        "reader": reader,
        "groups": groups,
        "accounts": accounts,
        "error_count": len(errors),
        "others": [f"{name}: {text}" for name, text in errors.items() if name not in known],
        **({} if changed is None else describe_automation(changed)),
    }
    status = 400 if errors else 200
    return render(request, "automations/dashboard/form.html", context, status=status)


def _go_to(reader: Reader, document: Mapping[str, Any]) -> HttpResponse:
    path = reverse("automations:automation-page", args=(reader.workspace_id, document["_id"]))
    return HttpResponseRedirect(path)
