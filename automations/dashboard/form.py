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
from tracking.ids import name_id

_NEW: dict[str, Any] = {"isActive": True, "trigger": {"match": DEFAULT_MATCH}}


@workspace_page
@require_http_methods(["GET", "HEAD", "POST"])
def edit_automation(
    request: HttpRequest, reader: Reader, automation_id: str | None = None
) -> HttpResponseBase:
    """Show the form of a new automation or of one; on POST create or change it."""
    workspace_id = reader.workspace_id
    document = None if automation_id is None else store.find_automation(workspace_id, automation_id)
    if automation_id is not None and document is None:
        raise Http404
    accounts = store.list_account_ids(workspace_id)
    show = partial(_show, request, reader, accounts, changed=document)
    if request.method != "POST":
        if document is not None:
            return show(read_document(AutomationSerializer().to_representation(document)))
        only_one = {"accountId": accounts[0]} if len(accounts) == 1 else {}
        return show(read_document(_NEW | only_one))
    kind = AutomationSerializer if document is None else AutomationChangesSerializer
    context = {"verify_account": partial(verify_free, workspace_id=workspace_id)}
    serializer = kind(data=request.POST, context=context)
    if not serializer.is_valid():
        return show(request.POST, serializer.errors)
    values = serializer.validated_data
    try:
        if automation_id is None:
            document = build_document(values, workspace_id=workspace_id, at=reader.at)
            store.insert_automation(document)
        else:
            changes, removed = build_changes(values, at=reader.at)
            document = store.update_automation(
                workspace_id, automation_id, changes=changes, removed=removed
            )
            if document is None:
                raise Http404
    except store.OverBound as error:
        return show(request.POST, {error.field or "automation": [str(error)]})
    path = reverse("automations:automation-page", args=(workspace_id, name_id(document["_id"])))
    return HttpResponseRedirect(path)


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
