"""Terminal tables, an HTML page with plotly, and PNG twins."""
