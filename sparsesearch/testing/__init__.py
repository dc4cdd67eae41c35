"""Conformance suites, so that what others plug in is held to what is asked of our own."""

from sparsesearch.testing.proxies import check_proxy

__all__ = ["check_proxy"]
