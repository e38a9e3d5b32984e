"""The comparison of arms: table and page."""
