"""All that a consumer, and HTTP, can do to the pager: pytest test_vmhb_pager.py."""

from vmhb_pager import PagerReporter

from vmhb_consumer.reporters.testing import Backend, HttpContract


class TestPager(HttpContract):
    reporter = PagerReporter

    def values(self, backend: Backend) -> dict[str, object]:
        return {"url": backend.url, "key": "me"}
