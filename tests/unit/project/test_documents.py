import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import get_commands

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = sorted(path.name for path in ROOT.glob("*.md"))
ENVIRONMENT_READ = r'read_\w+\(\s*"([A-Z_]+)"'


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def list_code(text: str) -> Iterator[str]:
    """Yield what is code in a document: indented blocks, fences and spans."""
    yield from re.findall(r"^(?: {4}|\t)(.*)$", text, re.MULTILINE)
    yield from re.findall(r"```.*?\n(.*?)```", text, re.DOTALL)
    yield from re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)


def list_named(pattern: str, text: str) -> set[str]:
    return {name for code in list_code(text) for name in re.findall(pattern, code)}


@pytest.mark.parametrize("document", DOCUMENTS)
class TestDocuments:
    def test_every_command_exists(self, document: str) -> None:
        assert list_named(r"manage\.py ([a-z_]+)", read(document)) <= get_commands().keys()

    def test_every_target_of_make_exists(self, document: str) -> None:
        targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
        assert list_named(r"(?:^|\s)make ([a-z]+)\b", read(document)) <= targets

    def test_every_link_leads_somewhere(self, document: str) -> None:
        text = read(document)
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if link.startswith("#"):
                assert link[1:] in anchors, link
            elif "://" not in link:
                assert (ROOT / link.partition("#")[0]).exists(), link

    def test_every_picture_is_there_and_says_what_it_shows(self, document: str) -> None:
        text = read(document)
        for tag in re.findall(r"<img [^>]*>", text):
            assert re.search(r'alt="[^"]+"', tag), tag
        for path in re.findall(r'(?:src|srcset)="([^"]+)"', text):
            assert (ROOT / path).exists(), path

    def test_every_file_that_is_named_exists(self, document: str) -> None:
        pattern = r"\b((?:automations|project|tests|tracking)/[\w/]+\.[a-z]+)"
        missing = [
            name for name in list_named(pattern, read(document)) if not (ROOT / name).exists()
        ]
        assert missing == []

    def test_no_setting_is_made_up(self, document: str) -> None:
        pattern = r"\b((?:DJANGO|INSTAGRAM|MONGODB|TRACKING)_[A-Z_]+)\b"
        assert list_named(pattern, read(document)) <= list_settings()


def list_settings() -> set[str]:
    # Django's own variable, and the one of the tests.
    others = {"DJANGO_SETTINGS_MODULE", "TEST_MONGODB_URI"}
    return set(re.findall(ENVIRONMENT_READ, read("project/settings.py"))) | others


def test_settings_table_and_example_name_what_is_read() -> None:
    settings = set(re.findall(ENVIRONMENT_READ, read("project/settings.py")))
    table = set(re.findall(r"^\| `([A-Z_]+)` \|", read("README.md"), re.MULTILINE))
    example = set(re.findall(r"^([A-Z_]+)=", read(".env.example"), re.MULTILINE))
    assert table == settings
    assert example == settings


@pytest.mark.parametrize("document", ["GUARANTEES.md", "SECURITY.md"])
def test_every_promise_names_tests_that_exist(document: str) -> None:
    named = re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?(?:::(\w+))?", read(document))
    assert named
    for path, *names in named:
        source = read(path)
        for name in filter(None, names):
            assert re.search(rf"^ *(class|def|async def) {name}\b", source, re.MULTILINE), (
                path,
                name,
            )
