"""What a person looks at: results.json and report.html."""
