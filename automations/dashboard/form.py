"""The form that creates and changes automations, over the API's own serializers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from automations.accounts.accounts import verify_free
from automations.api.serializers import (
    AutomationChangesSerializer,
    AutomationSerializer,
    build_changes,
    build_document,
)
from automations.dashboard.access import Reader, workspace_page
from automations.dashboard.form_fields import GROUPS, flatten_errors, list_fields, read_document
from automations.rules import store
from automations.rules.automation import DEFAULT_MATCH

_NEW: dict[str, Any] = {"isActive": True, "trigger": {"match": DEFAULT_MATCH}}


@workspace_page
@require_http_methods(["GET", "HEAD", "POST"])
def create_automation(request: HttpRequest, reader: Reader) -> HttpResponseBase:
    """Show an empty form; on POST create the automation."""
    accounts = store.list_account_ids(reader.workspace_id)
    context = {"verify_account": partial(verify_free, workspace_id=reader.workspace_id)}
    if request.method != "POST":
        only_one = {"accountId": accounts[0]} if len(accounts) == 1 else {}
        return _show(request, reader, values=read_document(_NEW | only_one), accounts=accounts)
    serializer = AutomationSerializer(data=request.POST, context=context)
    if not serializer.is_valid():
        return _refuse(request, reader, serializer.errors, accounts=accounts)
    document = build_document(
        serializer.validated_data, workspace_id=reader.workspace_id, at=reader.at
    )
    store.insert_automation(document)
    return _go_to(reader, str(document["_id"]))


@workspace_page
@require_http_methods(["GET", "HEAD", "POST"])
def change_automation(request: HttpRequest, reader: Reader, automation_id: str) -> HttpResponseBase:
    """Show the form; on POST change the automation, removing empty parts."""
    document = store.find_automation(reader.workspace_id, automation_id)
    if document is None:
        raise Http404
    accounts = store.list_account_ids(reader.workspace_id)
    context = {"verify_account": partial(verify_free, workspace_id=reader.workspace_id)}
    if request.method != "POST":
        shown = AutomationSerializer().to_representation(document)
        return _show(
            request, reader, values=read_document(shown), accounts=accounts, changed=document
        )
    serializer = AutomationChangesSerializer(data=request.POST, context=context)
    if not serializer.is_valid():
        return _refuse(request, reader, serializer.errors, accounts=accounts, changed=document)
    changes, removed = build_changes(serializer.validated_data, at=reader.at)
    if (
        store.update_automation(
            reader.workspace_id, automation_id, changes=changes, removed=removed
        )
        is None
    ):
        raise Http404
    return _go_to(reader, str(document["_id"]))


def _refuse(
    request: HttpRequest, reader: Reader, errors: Mapping[str, Any], **more: Any
) -> HttpResponse:
    """Show the submitted form again, with an error beside each refused field."""
    typed = {field.name: request.POST.get(field.name, "") for field in list_fields()}
    return _show(request, reader, values=typed, errors=flatten_errors(errors), status=400, **more)


def _show(
    request: HttpRequest,
    reader: Reader,
    *,
    values: Mapping[str, Any],
    accounts: list[str],
    errors: Mapping[str, str] | None = None,
    changed: Mapping[str, Any] | None = None,
    status: int = 200,
) -> HttpResponse:
    errors = errors or {}
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
        "id": None if changed is None else str(changed["_id"]),
        "name": None if changed is None else str(changed.get("name") or "Without a name"),
    }
    return render(request, "automations/dashboard/form.html", context, status=status)


def _go_to(reader: Reader, automation_id: str) -> HttpResponse:
    path = reverse("automations:automation-page", args=(reader.workspace_id, automation_id))
    return HttpResponseRedirect(path)
