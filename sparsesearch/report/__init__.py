"""Reports: terminal tables, HTML pages with plotly, and PNG figures."""
