"""What went wrong in a test, and what it costs: numbers first, then a page that shows them."""
