"""The report: one HTML file that opens offline, its figures as PNG, its tables as CSV, and files for MultiQC."""
