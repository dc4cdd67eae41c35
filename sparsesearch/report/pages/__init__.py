"""HTML pages and PNG figures."""
